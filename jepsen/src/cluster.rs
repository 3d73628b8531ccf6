//! [`Patient`]: the cluster under test, and what the nemesis has done to it.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_tests::cluster::{Cluster, ClusterError, ClusterOptions, Server};

/// How long the cluster may take to serve again once nothing is wrong any more.
const HEAL_WITHIN: Duration = Duration::from_secs(60);

/// One server of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A metadata server, by its position.
    Meta(usize),
    /// A data node, by its position.
    Data(usize),
}

/// Three metadata servers and three data nodes, of which some may be down.
#[derive(Debug)]
pub struct Patient {
    cluster: Cluster,
    down: BTreeSet<Victim>,
}

impl Patient {
    /// Starts the cluster.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn start() -> Result<Self, ClusterError> {
        let cluster = Cluster::start(ClusterOptions::default()).await?;
        Ok(Self { cluster, down: BTreeSet::new() })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The servers that can be struck without leaving fewer than two of their kind: those of a kind
    /// of which all are up.
    #[must_use]
    pub fn victims(&self) -> Vec<Victim> {
        let metas_up = !self.down.iter().any(|v| matches!(v, Victim::Meta(_)));
        let datas_up = !self.down.iter().any(|v| matches!(v, Victim::Data(_)));
        let metas = (0..self.cluster.metas.len()).filter(|_| metas_up).map(Victim::Meta);
        metas.chain((0..self.cluster.datas.len()).filter(|_| datas_up).map(Victim::Data)).collect()
    }

    /// The servers that are down.
    #[must_use]
    pub fn down(&self) -> Vec<Victim> {
        self.down.iter().copied().collect()
    }

    fn server(&mut self, victim: Victim) -> &mut Server {
        match victim {
            Victim::Meta(n) => &mut self.cluster.metas[n],
            Victim::Data(n) => &mut self.cluster.datas[n],
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, victim: Victim) {
        self.server(victim).kill();
        self.down.insert(victim);
    }

    /// Starts a killed server again.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn restart(&mut self, victim: Victim) -> Result<(), ClusterError> {
        self.server(victim).start()?;
        self.down.remove(&victim);
        Ok(())
    }

    /// SIGSTOP.
    pub fn pause(&mut self, victim: Victim) {
        self.server(victim).pause();
        self.down.insert(victim);
    }

    /// SIGCONT.
    pub fn resume(&mut self, victim: Victim) {
        self.server(victim).resume();
        self.down.remove(&victim);
    }

    /// Ends every fault and waits until all servers serve.
    ///
    /// # Errors
    /// When they do not in time: the cluster has not come back to life.
    pub async fn heal(&mut self) -> Result<(), ClusterError> {
        for victim in self.down() {
            // A paused one goes on, a killed one starts.
            self.resume(victim);
            self.restart(victim)?;
        }
        self.cluster.wait_ready(HEAL_WITHIN).await
    }
}
