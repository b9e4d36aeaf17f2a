mod coalesce;
mod cut;
mod world;
