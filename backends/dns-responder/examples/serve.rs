//! Serves `h0.bench.local` to `h9999.bench.local` on an address until it is killed, for measurements; with a rate as
//! the second argument, so many records a second change at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use overlayd_core::contract::{Dns as _, DnsChange, DnsPlan};
use overlayd_dns_responder::DnsResponder;

const RECORDS: u32 = 10_000;
const TICK: Duration = Duration::from_millis(10);

fn addresses(record: u32, version: u32) -> BTreeSet<IpAddr> {
    let [.., version] = version.to_be_bytes();
    BTreeSet::from([Ipv4Addr::from(0x0a4d_0000 + record).into(), Ipv4Addr::new(10, 99, 0, version).into()])
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("usage: serve ADDRESS:PORT [CHANGES-PER-SECOND]")?.parse()?;
    let rate: u32 = arguments.next().map_or(Ok(0), |rate| rate.parse())?;
    let name = |record: u32| format!("h{record}.bench.local");
    let responder = DnsResponder::new();
    let records: BTreeMap<_, _> = (0..RECORDS).map(|record| (name(record), addresses(record, 0))).collect();
    let zones = BTreeSet::from(["bench.local".to_owned()]);
    responder.apply(&DnsPlan { listen: vec![listen], zones, records, ..DnsPlan::default() }).await?;
    let mut ticks = tokio::time::interval(TICK);
    for at in 0.. {
        ticks.tick().await;
        for change in 0..rate / 100 {
            let record = (at * 7919 + change * 31) % RECORDS;
            responder.change_records(&[DnsChange::Set(name(record), addresses(record, at))]).await?;
        }
    }
    Ok(())
}
