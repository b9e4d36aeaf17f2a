use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use overlayd_core::contract::{Dns, DnsChange, DnsPlan, Error, Result};

use super::FaultScript;

/// A responder in memory: [`FakeDns::ask`] is the query.
#[derive(Debug, Clone, Default)]
pub struct FakeDns {
    plan: Arc<Mutex<Option<DnsPlan>>>,
    script: FaultScript,
}

impl FakeDns {
    /// The record of calls, and the way to make some fail.
    pub fn script(&self) -> &FaultScript {
        &self.script
    }

    /// The plan that is answered from; the default one when stopped.
    pub fn plan(&self) -> DnsPlan {
        self.current().clone().unwrap_or_default()
    }

    /// The addresses answered for an absolute name at this socket; `None` when nothing listens there, or when the name
    /// is outside of our zones.
    pub fn ask(&self, server: SocketAddr, name: &str) -> Option<BTreeSet<IpAddr>> {
        let plan = self.plan();
        let name = name.to_ascii_lowercase();
        let ours = plan.listen.contains(&server) && in_a_zone(&plan, &name);
        ours.then(|| plan.records.get(&name).cloned().unwrap_or_default())
    }

    fn current(&self) -> MutexGuard<'_, Option<DnsPlan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Dns for FakeDns {
    fn name(&self) -> &'static str {
        "fake-dns"
    }

    async fn apply(&self, plan: &DnsPlan) -> Result<()> {
        let call = self.script.enter("apply", "").await?;
        check(plan)?;
        self.script.half_way(&call).await?;
        *self.current() = Some(plan.clone());
        Ok(())
    }

    async fn change_records(&self, changes: &[DnsChange]) -> Result<()> {
        let call = self.script.enter("change_records", "").await?;
        let mut plan = self.current().clone().ok_or_else(|| Error::NotFound("a DNS plan".into()))?;
        for change in changes {
            match change.clone() {
                DnsChange::Set(name, addresses) => plan.records.insert(name, addresses),
                DnsChange::Remove(name) => plan.records.remove(&name),
            };
        }
        check(&plan)?;
        self.script.half_way(&call).await?;
        *self.current() = Some(plan);
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        let call = self.script.enter("clear", "").await?;
        self.script.half_way(&call).await?;
        *self.current() = None;
        Ok(())
    }
}

fn check(plan: &DnsPlan) -> Result<()> {
    let absolute = |name: &String| *name == name.to_ascii_lowercase() && !name.ends_with('.') && !name.is_empty();
    if let Some(name) = plan.zones.iter().chain(plan.records.keys()).find(|name| !absolute(name)) {
        return Err(Error::Invalid(format!("`{name}` is not a lowercase name without final dot")));
    }
    match plan.records.keys().find(|name| !in_a_zone(plan, name)) {
        Some(name) => Err(Error::Invalid(format!("`{name}` is in none of the zones"))),
        None => Ok(()),
    }
}

fn in_a_zone(plan: &DnsPlan, name: &str) -> bool {
    plan.zones.iter().any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}
