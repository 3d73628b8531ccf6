//! Which feature level each entry needs. The matches have no wildcard, so that whoever adds a variant has
//! to say its level. An entry that does more from a level on, as `RemoveTree` does from the third, asks
//! the state. A variant of an enum inside them (a kind of file or of lock, a mode, a field of a
//! policy) that an older server cannot read needs one too: look at it in the arm of its operation.

use cairn_types::FeatureLevel;

use super::check::Finding;
use super::command::Command;
use super::operation::Operation;
use super::precondition::{Precondition, Wanted};

const FIRST: FeatureLevel = FeatureLevel::FIRST;
const SECOND: FeatureLevel = FeatureLevel::SECOND;
const FOURTH: FeatureLevel = FeatureLevel::FOURTH;
const FIFTH: FeatureLevel = FeatureLevel::FIFTH;
const SIXTH: FeatureLevel = FeatureLevel::SIXTH;

/// The highest of several.
fn highest(levels: impl Iterator<Item = FeatureLevel>) -> FeatureLevel {
    levels.max().unwrap_or(FIRST)
}

impl Command {
    /// The feature level without which this command may not be in the log.
    #[must_use]
    pub fn needs(&self) -> FeatureLevel {
        match self {
            Command::Request { operation, .. } => operation.needs(),
            Command::Repair { finding, .. } => finding.needs(),
            // Proposed when every member has told that it applies that level: an older server, which does
            // not know the command, tells none.
            Command::RaiseLevel { .. } => FIRST,
            Command::Probe
            | Command::OpenHolder { .. }
            | Command::Deny { .. }
            | Command::DecideUnlinked {}
            | Command::BeginLoad { .. }
            | Command::LoadFacts { .. }
            | Command::EndLoad { .. }
            | Command::DiscardLoad => SECOND,
            Command::RegisterNodeIn { .. }
            | Command::DrainNode { .. }
            | Command::UndrainNode { .. }
            | Command::ReleaseReplicas { .. }
            | Command::EndDrain { .. }
            | Command::CancelUpload { .. }
            | Command::CondemnPacks { .. }
            | Command::CreateCompaction { .. }
            | Command::Compacted { .. }
            | Command::PrepareSpare { .. }
            | Command::Roll { .. } => FOURTH,
            Command::CreateMerge { .. } | Command::Merged { .. } => FIFTH,
            Command::CreatePut { .. }
            | Command::CreateObjectDeletion { .. }
            | Command::CreateProbe { .. }
            | Command::ObjectWritten { .. }
            | Command::ObjectGone { .. }
            | Command::ObjectChanged { .. }
            | Command::MountProbed { .. }
            | Command::FollowMove { .. }
            | Command::EndMove { .. } => SIXTH,
            Command::InitCluster { .. }
            | Command::OpenSession { .. }
            | Command::CloseSession { .. }
            | Command::ExpireSession { .. }
            | Command::Acknowledge { .. }
            | Command::RegisterNode { .. }
            | Command::RetireDisk { .. }
            | Command::BeginSeal { .. }
            | Command::FinishSeal { .. }
            | Command::SealPlanned { .. }
            | Command::RenewGrant { .. }
            | Command::CreateUpload { .. }
            | Command::Reassign { .. }
            | Command::Persisted { .. }
            | Command::FailIntent { .. }
            | Command::StartImport { .. }
            | Command::ImportBatch { .. }
            | Command::AddHolder { .. }
            | Command::DropReplica { .. }
            | Command::CreatePackDeletion { .. }
            | Command::PackDeleted { .. }
            | Command::Purge { .. }
            | Command::AcceptLoss { .. }
            | Command::PurgeContent { .. }
            | Command::RemoveNode { .. }
            | Command::StrikeReplicas { .. }
            | Command::EndRemoval { .. }
            | Command::OpenSessionAs { .. }
            | Command::PurgeTree { .. }
            | Command::AdmitServer { .. }
            | Command::RetireServer { .. } => FIRST,
        }
    }
}

impl Command {
    /// What a cluster at this feature level is asked in its place, where it has something older for it:
    /// without holders, unlinked files are gone at once there, as ever; without zones, a data node is in none.
    #[must_use]
    pub fn at(self, level: FeatureLevel) -> Self {
        if level >= FOURTH {
            return self;
        }
        match self {
            Command::RegisterNodeIn {
                disk, address, incarnation, boot_id, capacity_bytes, version, ..
            } => Command::RegisterNode { disk, address, incarnation, boot_id, capacity_bytes, version },
            command if level >= SECOND => command,
            Command::OpenHolder { client, credentials: Some(credentials) } => {
                Command::OpenSessionAs { client, credentials }
            }
            Command::OpenHolder { client, credentials: None } => Command::OpenSession { client },
            Command::Request { session, sequence, acknowledged_below, operation } => {
                let operation = match operation {
                    Operation::Holding { operation, .. } => *operation,
                    operation => operation,
                };
                Command::Request { session, sequence, acknowledged_below, operation }
            }
            command => command,
        }
    }
}

impl Operation {
    /// The feature level without which this operation may not be in the log.
    #[must_use]
    pub fn needs(&self) -> FeatureLevel {
        match self {
            Operation::Transact { preconditions, operations } => {
                let demands = preconditions.iter().map(Precondition::needs);
                highest(demands.chain(operations.iter().map(Operation::needs)))
            }
            Operation::Holding { operation, .. } => operation.needs().max(SECOND),
            Operation::MountAddAs { .. }
            | Operation::MountSet { .. }
            | Operation::MountRemoveWith { .. }
            | Operation::ConflictDismiss { .. } => SIXTH,
            Operation::Mkdir { .. }
            | Operation::Create { .. }
            | Operation::Symlink { .. }
            | Operation::Link { .. }
            | Operation::Unlink { .. }
            | Operation::Rmdir { .. }
            | Operation::Rename { .. }
            | Operation::SetAttr { .. }
            | Operation::SetPolicy { .. }
            | Operation::Commit { .. }
            | Operation::OpenChunk { .. }
            | Operation::OpenTail { .. }
            | Operation::OpenExclusive { .. }
            | Operation::ReleaseChunk { .. }
            | Operation::MountAdd { .. }
            | Operation::MountRemove { .. }
            | Operation::RenewGrant { .. }
            | Operation::Mknod { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. }
            | Operation::SetAttrNow { .. }
            | Operation::Clone { .. }
            | Operation::CopyRange { .. }
            | Operation::Concat { .. }
            | Operation::PunchHole { .. }
            | Operation::Allocate { .. }
            | Operation::Lock { .. }
            | Operation::Unlock { .. }
            | Operation::CancelLock { .. }
            | Operation::RemoveTree { .. } => FIRST,
        }
    }
}

impl Precondition {
    fn needs(&self) -> FeatureLevel {
        match self.wanted {
            Wanted::Absent | Wanted::Present { .. } => FIRST,
        }
    }
}

impl Finding {
    fn needs(&self) -> FeatureLevel {
        match self {
            Finding::ForgottenOrphan { .. } | Finding::WrongDenial { .. } | Finding::StrayHold { .. } => {
                SECOND
            }
            Finding::StraySpare { .. } | Finding::LostSpare { .. } => FOURTH,
            Finding::Undecodable { .. }
            | Finding::NoRoot { .. }
            | Finding::NoPlace { .. }
            | Finding::TwoPrimaries { .. }
            | Finding::DanglingPlace { .. }
            | Finding::DanglingName { .. }
            | Finding::UnlistedLink { .. }
            | Finding::StrayLink { .. }
            | Finding::LinkCount { .. }
            | Finding::LostDirectory { .. }
            | Finding::NoDirectory { .. }
            | Finding::Cycle { .. }
            | Finding::NamedOrphan { .. }
            | Finding::LostFile { .. }
            | Finding::LostContent { .. }
            | Finding::NoFile { .. }
            | Finding::BadExtent { .. }
            | Finding::BeyondSize { .. }
            | Finding::OutsidePart { .. }
            | Finding::NoChunk { .. }
            | Finding::BeyondExtentEnd { .. }
            | Finding::BeyondSeal { .. }
            | Finding::NoMount { .. }
            | Finding::BadParts { .. }
            | Finding::LiveBytes { .. }
            | Finding::SealedUndecided { .. }
            | Finding::HolderNotReplica { .. }
            | Finding::NobodyHolds { .. }
            | Finding::NamesRemoved { .. }
            | Finding::WrongTail { .. }
            | Finding::MissingQueueRow { .. }
            | Finding::StrayQueueRow { .. }
            | Finding::MissingHeld { .. }
            | Finding::StrayHeld { .. }
            | Finding::HeldForNobody { .. }
            | Finding::NoPack { .. }
            | Finding::PackCounts { .. }
            | Finding::UploadGone { .. }
            | Finding::DeletionGone { .. }
            | Finding::StrayIntent { .. }
            | Finding::StrayKey { .. }
            | Finding::MissingKey { .. }
            | Finding::StrayImport { .. }
            | Finding::MissingImport { .. }
            | Finding::NoMountRoot { .. }
            | Finding::ReplyCount { .. }
            | Finding::StrayReplies { .. }
            | Finding::StrayWriter { .. }
            | Finding::UnlistedWriter { .. }
            | Finding::StrayWriting { .. }
            | Finding::WrongCount { .. }
            | Finding::NextId { .. } => FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::operation::Target;
    use cairn_types::{FEATURE_LEVEL, Sequence, SessionId};

    fn request(operation: Operation) -> Command {
        let (session, sequence) = (SessionId(1), Sequence(1));
        Command::Request { session, sequence, acknowledged_below: sequence, operation }
    }

    #[test]
    fn a_cluster_of_the_first_level_is_asked_for_what_it_knows() {
        let client = || "c".to_owned();
        let holder = |credentials| Command::OpenHolder { client: client(), credentials };
        let who = cairn_types::Credentials { uid: 7, gid: 8, groups: vec![] };
        assert_eq!(holder(None).at(FIRST), Command::OpenSession { client: client() });
        let as_who = Command::OpenSessionAs { client: client(), credentials: who.clone() };
        assert_eq!(holder(Some(who)).at(FIRST), as_who);
        let unlink = Operation::Unlink { target: Target::path("/a") };
        let operation = Box::new(unlink.clone());
        let holding = Operation::Holding { number: 1, inos: vec![], operation };
        assert_eq!(request(holding.clone()).at(FIRST), request(unlink));
        assert_eq!(request(holding.clone()).at(SECOND), request(holding));
        assert_eq!(holder(None).at(SECOND), holder(None));
    }

    #[test]
    fn what_was_in_the_log_before_there_were_levels_needs_the_first() {
        let unlink = Operation::Unlink { target: Target::path("/a") };
        assert_eq!(request(unlink.clone()).needs(), FIRST);
        let absent = Precondition { target: Target::path("/a"), wanted: Wanted::Absent };
        let both = Operation::Transact { preconditions: vec![absent], operations: vec![unlink] };
        assert_eq!(request(both).needs(), FIRST);
    }

    #[test]
    fn nothing_needs_more_than_this_build_applies() {
        let samples = crate::keys::entry_samples::commands();
        for (name, command) in samples.into_iter().chain(crate::keys::entry_samples::operations()) {
            assert!(command.needs() <= FEATURE_LEVEL, "{name}");
        }
        assert_eq!(Command::Probe.needs(), SECOND);
    }
}
