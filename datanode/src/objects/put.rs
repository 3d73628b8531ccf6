//! [`Put`]: brings one object of a mounted bucket to what the namespace says.

use std::sync::Arc;

use cairn_proto::v1;

use super::content::{Chunks, Content};
use super::look::{Found, Look, ObjectVersion, look, seen};
use super::order::Order;
use super::way::Way;
use super::{Buffers, INTENT, ObjectError};
use crate::understore::{
    Condition, Inspected, MountedStore, Properties, SourceVersion, UnderStoreError, Written,
};

/// Writes of one object, the one included that replaces what was found not to be what was sent.
const ATTEMPTS_MAX: u32 = 2;

/// An object to be written, and how.
pub struct Put {
    pub(super) store: Arc<dyn MountedStore>,
    pub(super) order: Arc<Order>,
    pub(super) content: Content,
    pub(super) buffers: Buffers,
    pub(super) way: Way,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutKind {
    /// Its bytes, in one request.
    Put,
    /// In parts.
    Multipart,
    /// By the endpoint, in one request.
    Copy,
}

impl PutKind {
    /// The label of the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Multipart => "multipart",
            Self::Copy => "copy",
        }
    }
}

/// What became of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutDone {
    /// It is there, verified, and ours.
    Written {
        /// As a look shows it.
        object: ObjectVersion,
        /// Bytes that were sent.
        sent_bytes: u64,
        /// Bytes that the endpoint copied.
        copied_bytes: u64,
    },
    /// Somebody else changed it, or what its bytes come from. Nothing was done.
    Conflict(Found),
}

/// What became of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// There is no such object (any more).
    Gone,
    /// It is another version.
    Conflict(Found),
}

/// What an attempt came to.
enum Attempt {
    Done(PutDone),
    /// The object with this ETag is ours, and not what was sent.
    Wrong(String),
}

/// Whether an attempt is made, and under which condition.
enum Admitted {
    Go(Condition),
    Over(Attempt),
}

impl Put {
    /// The put that is ordered, of bytes that `chunks` and `store` have.
    ///
    /// # Errors
    /// [`ObjectError`] when it cannot be put together.
    pub fn new(
        order: Order,
        store: Arc<dyn MountedStore>,
        chunks: Arc<dyn Chunks>,
        buffers: Buffers,
    ) -> Result<Self, ObjectError> {
        let (way, order) = (Way::of(&order)?, Arc::new(order));
        let content = Content::new(Arc::clone(&order), Arc::clone(&store), chunks);
        Ok(Self { store, order, content, buffers, way })
    }

    /// How it is written.
    #[must_use]
    pub fn kind(&self) -> PutKind {
        match self.way {
            Way::Copy(_) => PutKind::Copy,
            Way::Whole => PutKind::Put,
            Way::Parts { .. } => PutKind::Multipart,
        }
    }

    /// Writes it. When it answers that it is written, the object is durable in the bucket, whole, as ordered, and
    /// replaced the version that was named and no other. Asked again, by any node, it finds its own object.
    ///
    /// # Errors
    /// [`ObjectError`]. After an error the object may be there; asking again finds out.
    pub async fn run(&self) -> Result<PutDone, ObjectError> {
        let mut condition = self.order.condition.clone();
        for attempt in 1..=ATTEMPTS_MAX {
            match self.attempt(&condition, attempt > 1).await? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Wrong(etag) => {
                    metrics::counter!("cairn_data_mount_puts_wrong_total").increment(1);
                    tracing::warn!(
                        key = self.order.key,
                        etag,
                        "an object is not in the bucket as it was sent"
                    );
                    condition = Condition::Version(etag);
                }
            }
            // What its bytes were copied from is no more.
            if self.way.copies_from(&self.order.key) {
                break;
            }
        }
        if let (Condition::Absent, Condition::Version(wrong)) = (&self.order.condition, &condition) {
            // Nothing is better than wrong bytes.
            if let Err(error) = self.store.delete(&self.order.key, Some(wrong)).await {
                tracing::warn!(key = self.order.key, %error, "remove an object with wrong bytes");
            }
        }
        Err(ObjectError::NotVerified { key: self.order.key.clone() })
    }

    async fn attempt(&self, condition: &Condition, again: bool) -> Result<Attempt, ObjectError> {
        let condition = match self.admit(condition, again).await? {
            Admitted::Go(condition) => condition,
            Admitted::Over(attempt) => return Ok(attempt),
        };
        match self.write(&condition).await {
            Ok((written, crc32c)) => self.confirm(&written, crc32c).await,
            Err(error) => self.explain(error, &condition).await,
        }
    }

    /// Looks before it writes, where the endpoint does not, or where much would be sent in vain.
    async fn admit(&self, condition: &Condition, again: bool) -> Result<Admitted, ObjectError> {
        let lacks = self.way.lacks(&self.order, condition);
        if let Some(what) = lacks.filter(|_| !self.order.terms.sole_writer) {
            return Err(ObjectError::Unable { store: self.store.describe(), what });
        }
        let admitted = if lacks.is_some() { Condition::Unchecked } else { condition.clone() };
        // What was found wrong is known to be there.
        if again || (lacks.is_none() && !matches!(self.way, Way::Parts { .. })) {
            return Ok(Admitted::Go(admitted));
        }
        Ok(match self.look(condition).await? {
            Look::AsExpected => Admitted::Go(admitted),
            Look::Ours(object) => Admitted::Over(self.verified(*object, None).await?),
            Look::Other(found) => Admitted::Over(Attempt::Done(PutDone::Conflict(found))),
        })
    }

    /// Writes it, and answers the CRC32C of all of its bytes where that is known.
    async fn write(&self, condition: &Condition) -> Result<(Written, Option<u32>), ObjectError> {
        let properties = self.properties().await?;
        let (key, length) = (&self.order.key, self.order.length);
        match &self.way {
            Way::Copy(source) => Ok((self.store.copy(key, condition, &properties, source).await?, None)),
            Way::Whole => {
                let _room = self.buffers.take(length).await;
                let bytes = self.content.read(0..length).await?;
                let crc32c = crc32c::crc32c(&bytes);
                Ok((self.store.put(key, condition, &properties, bytes).await?, Some(crc32c)))
            }
            Way::Parts { plan, sources } => self.write_parts(condition, &properties, plan, sources).await,
        }
    }

    /// What it is to carry: what the object that it looks like carries, and what the order says.
    async fn properties(&self) -> Result<Properties, ObjectError> {
        let mut properties = Properties { tags: Some(String::new()), ..Properties::default() };
        if let Some((key, etag)) = &self.order.like {
            let changed = |size| {
                let (key, etag) = (key.clone(), etag.clone());
                ObjectError::SourceChanged { source_version: SourceVersion { key, etag, size } }
            };
            let like = seen(self.store.as_ref(), key).await?.ok_or_else(|| changed(0))?;
            if like.etag != *etag {
                return Err(changed(like.size));
            }
            // A copy takes the tags of its source along.
            let tags = match &self.way {
                Way::Copy(source) if source.key == *key && source.etag == *etag => None,
                _ => Some(self.store.tags(key).await?),
            };
            properties = Properties { tags, ..like.properties };
            properties.metadata.remove(INTENT);
        }
        properties.metadata.extend(self.order.metadata.clone());
        Ok(properties)
    }

    /// Looks at what was written.
    async fn confirm(&self, written: &Written, crc32c: Option<u32>) -> Result<Attempt, ObjectError> {
        let object = seen(self.store.as_ref(), &self.order.key).await?;
        let ours = object.filter(|object| {
            object.etag == written.etag || object.properties.metadata.get(INTENT) == Some(&self.order.mark)
        });
        match ours {
            Some(object) => self.verified(object, crc32c).await,
            // Written over, or deleted, in the moment since.
            None => {
                let object = seen(self.store.as_ref(), &self.order.key).await?;
                Ok(Attempt::Done(PutDone::Conflict(Found::new(&self.order.key, object))))
            }
        }
    }

    /// An object of ours: is it what was sent?
    async fn verified(&self, object: Inspected, crc32c: Option<u32>) -> Result<Attempt, ObjectError> {
        if !self.is_as_sent(&object, crc32c).await? {
            return Ok(Attempt::Wrong(object.etag));
        }
        let (sent_bytes, copied_bytes) = self.way.bytes(&self.order);
        let object = object.into();
        Ok(Attempt::Done(PutDone::Written { object, sent_bytes, copied_bytes }))
    }

    /// What an error means: its answer was lost, somebody else was there, or it is to be tried again.
    async fn explain(&self, error: ObjectError, condition: &Condition) -> Result<Attempt, ObjectError> {
        let (refused, unknown) = match &error {
            ObjectError::SourceChanged { .. } => (true, false),
            ObjectError::Store(error) => {
                use UnderStoreError as U;
                let refused = matches!(error, U::PreconditionFailed { .. } | U::NoSuchKey { .. });
                let over = matches!(error, U::Other { code, .. } if code == "NoSuchUpload");
                (refused, over || error.retryable())
            }
            _ => (false, false),
        };
        if !refused && !unknown {
            return Err(error);
        }
        match self.look(condition).await {
            Ok(Look::Ours(object)) => self.verified(*object, None).await,
            Ok(Look::Other(found)) => Ok(Attempt::Done(PutDone::Conflict(found))),
            Ok(Look::AsExpected) if refused => self.blame_source(error).await,
            // The error says more than that the look failed too.
            Ok(Look::AsExpected) | Err(_) => Err(error),
        }
    }

    /// The target is as it must be: then a source is not.
    async fn blame_source(&self, error: ObjectError) -> Result<Attempt, ObjectError> {
        let suspect = match (&error, &self.way) {
            (ObjectError::SourceChanged { source_version }, _) => source_version.clone(),
            (_, Way::Copy(version)) => SourceVersion::clone(version),
            _ => return Err(error),
        };
        let object = seen(self.store.as_ref(), &suspect.key).await?;
        if object.as_ref().is_some_and(|object| object.etag == suspect.etag) {
            return Err(error);
        }
        Ok(Attempt::Done(PutDone::Conflict(Found::new(&suspect.key, object))))
    }

    async fn look(&self, condition: &Condition) -> Result<Look, ObjectError> {
        let ours = (self.order.mark.as_str(), self.order.length);
        look(self.store.as_ref(), &self.order.key, condition, ours).await
    }
}

impl From<PutDone> for v1::report_work_request::Outcome {
    fn from(done: PutDone) -> Self {
        match done {
            PutDone::Written { object, sent_bytes, copied_bytes } => Self::ObjectWritten(v1::ObjectWritten {
                etag: object.etag,
                size: object.size,
                mtime_ns: object.mtime.0,
                version_id: object.version_id.unwrap_or_default(),
                uploaded_bytes: sent_bytes,
                copied_bytes,
            }),
            PutDone::Conflict(found) => Self::ObjectConflict(found.into()),
        }
    }
}

impl From<Deleted> for v1::report_work_request::Outcome {
    fn from(deleted: Deleted) -> Self {
        match deleted {
            Deleted::Gone => Self::ObjectGone(v1::ObjectGone {}),
            Deleted::Conflict(found) => Self::ObjectConflict(found.into()),
        }
    }
}
