//! What the job proposes, one try each.

use std::sync::Arc;

use cairn_types::{ChunkId, FsError, InodeId, IntentId, MountId, NodeId};

use crate::leader::tenure::{JobFault, Refused, Tenure};
use crate::leader::{aging, intents};
use crate::namespace::{Answer, Command, read};

/// One object that something is to be done about.
pub enum Task {
    /// A file or a marker is written.
    Put(InodeId),
    /// The object of that key is deleted.
    Delete(Vec<u8>),
}

/// What became of the try.
pub enum Begun {
    /// A data node has it.
    Work(IntentId),
    /// There is nothing to be done any more.
    Over,
    /// Something else must be done first.
    Blocked,
}

/// Makes the intent of a task.
pub async fn begin(
    tenure: &Arc<Tenure>,
    mount: MountId,
    task: Task,
    assignee: NodeId,
) -> (MountId, Task, Result<Begun, JobFault>) {
    let command = match &task {
        Task::Put(ino) => Command::CreatePut { mount, ino: *ino, assignee },
        Task::Delete(key) => Command::CreateObjectDeletion { mount, key: key.clone(), assignee },
    };
    let begun = match tenure.propose(command).await {
        Ok(Answer { intent: Some(intent), .. }) => Ok(Begun::Work(intent)),
        // Another file is to leave the key first.
        Ok(Answer { resume_after: Some(_), .. }) => Ok(Begun::Blocked),
        Ok(_) => Ok(Begun::Over),
        Err(Refused::Fs(error)) => {
            tracing::debug!(%mount, %error, "an object's turn has not come");
            Ok(Begun::Blocked)
        }
        Err(error) => Err(error.into()),
    };
    (mount, task, begun)
}

/// Closes a file's tail, also one without bytes: what is known of the file is all then.
pub async fn close(tenure: Arc<Tenure>, tail: ChunkId) {
    match tenure.chunk(tail) {
        Ok(Some(record)) => aging::close(&tenure, &record, false).await,
        Ok(None) => {}
        Err(error) => tracing::warn!(chunk = %tail, %error, "a tail is not closed"),
    }
}

/// How far a walk came.
pub enum Step {
    /// To its end, or as far as it may in one turn.
    Forward,
    /// Something must be read first.
    Waits,
}

/// Goes on with a directory's walk, so many steps at most; what must be read from the bucket first is read from here
/// on.
///
/// # Errors
/// [`JobFault`] when an entry did not get into the log.
pub async fn walk(
    tenure: &Arc<Tenure>,
    mount: MountId,
    directory: InodeId,
    steps: usize,
) -> Result<Step, JobFault> {
    for _ in 0..steps {
        match tenure.propose(Command::FollowMove { mount, directory }).await {
            Ok(answer) if answer.resume_after.is_some() => {}
            Ok(_) => return Ok(Step::Forward),
            Err(Refused::Fs(FsError::Importing { intent })) => {
                read_first(tenure, directory, intent).await?;
                return Ok(Step::Waits);
            }
            Err(Refused::Fs(error)) => {
                tracing::debug!(%mount, %directory, %error, "a tree does not follow its directory yet");
                return Ok(Step::Waits);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Step::Forward)
}

/// Has a directory read from its bucket, unless `intent` does already.
async fn read_first(tenure: &Tenure, directory: InodeId, intent: IntentId) -> Result<(), JobFault> {
    let under_way = read::intent(&*tenure.local()?.store, intent)?.is_some_and(|record| !record.failed);
    let Some(assignee) = intents::pick(tenure, &intents::live_nodes(tenure)) else { return Ok(()) };
    if !under_way && tenure.try_propose(Command::StartImport { directory, assignee }).await?.is_some() {
        tenure.stir();
    }
    Ok(())
}
