//! The cluster's feature level: the leader asks every member which levels it applies, and raises the
//! cluster's as far as all of them do. What it is told is kept in memory, for the status; the level is
//! raised by what all members have said in one round, since one that is away may come back older.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::{FeatureLevel, FeatureLevels};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Metrics, Node};
use crate::namespace::Command;

/// How long a member has to tell its levels.
const ASK: Duration = Duration::from_secs(2);
/// The pause between two rounds of questions.
const ROUND: Duration = Duration::from_secs(1);
/// How long the entry that raises the level may take.
const ENTRY: Duration = Duration::from_secs(5);

/// By member, what it last told.
pub type Told = BTreeMap<u64, FeatureLevels>;

/// Every member's id and address.
type Members = BTreeMap<u64, String>;

fn members(metrics: &Metrics) -> Members {
    metrics.membership_config.nodes().map(|(id, node)| (*id, node.addr.clone())).collect()
}

/// How far all can go; `None` when somebody has not told, or they have no level in common.
fn common(told: &[Option<FeatureLevels>]) -> Option<FeatureLevel> {
    let told: Vec<FeatureLevels> = told.iter().copied().collect::<Option<_>>()?;
    let highest = told.iter().map(|levels| levels.highest).min()?;
    told.iter().all(|levels| levels.include(highest)).then_some(highest)
}

/// Asks and raises while this server leads, until `stop`. What is told goes to `told`.
pub async fn raise_levels(node: Node, told: watch::Sender<Told>, stop: CancellationToken) {
    let mut leadership = node.leadership();
    loop {
        let leads = leadership.borrow_and_update().is_some();
        if leads {
            tokio::select! {
                () = stop.cancelled() => return,
                () = round(&node, &told) => {}
            }
        } else {
            told.send_replace(Told::default());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ROUND), if leads => {}
        }
    }
}

/// As the leader of a group that has no name yet, raises the level as far as all members go: who meets a
/// new cluster, all of whose servers are of one build, meets it at the level of that build.
pub async fn raise_before_naming(node: &Node) {
    let (asked, answers) = ask(node).await;
    raise(node, &asked, &answers).await;
}

async fn round(node: &Node, told: &watch::Sender<Told>) {
    let (asked, answers) = ask(node).await;
    told.send_modify(|known| {
        known.retain(|id, _| asked.contains_key(id));
        known.extend(asked.keys().copied().zip(&answers).filter_map(|(id, answer)| Some((id, (*answer)?))));
    });
    raise(node, &asked, &answers).await;
}

/// All members, and what each of them told, in the same order.
async fn ask(node: &Node) -> (Members, Vec<Option<FeatureLevels>>) {
    let asked = members(&node.metrics());
    let answers = asked.iter().map(|(id, address)| async move {
        match *id == node.id().0 {
            true => Some(node.levels()),
            false => node.shared.network.levels(*id, address, ASK).await,
        }
    });
    let answers = futures::future::join_all(answers).await;
    (asked, answers)
}

async fn raise(node: &Node, asked: &Members, answers: &[Option<FeatureLevels>]) {
    let reaches = || common(answers).filter(|to| *to > node.level());
    if reaches().is_none() {
        return;
    }
    // Whoever is being added meanwhile was told the level that there is.
    let Ok(_leveling) = node.shared.leveling.acquire().await else { return };
    let Some(to) = reaches().filter(|_| members(&node.metrics()) == *asked) else { return };
    match node.propose_internal(Command::RaiseLevel { to }, ENTRY).await {
        Ok((index, Ok(_))) => tracing::info!(level = to.0, index = index.0, "the feature level is raised"),
        other => tracing::info!(?other, level = to.0, "the feature level was not raised yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_goes_as_far_as_all_have_told_and_no_further() {
        let of = |lowest, highest| {
            Some(FeatureLevels { lowest: FeatureLevel(lowest), highest: FeatureLevel(highest) })
        };
        assert_eq!(common(&[of(1, 2)]), Some(FeatureLevel(2)));
        assert_eq!(common(&[of(1, 3), of(1, 2), of(2, 4)]), Some(FeatureLevel(2)));
        assert_eq!(common(&[of(1, 3), None]), None, "one has not told");
        assert_eq!(common(&[of(1, 1), of(2, 3)]), None, "they have none in common");
        assert_eq!(common(&[of(1, 3), Some(FeatureLevels::UNTOLD)]), Some(FeatureLevel::FIRST));
    }
}
