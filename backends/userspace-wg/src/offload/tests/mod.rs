mod cut;
mod gather;
mod world;
