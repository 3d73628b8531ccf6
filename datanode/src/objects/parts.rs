//! Objects in parts: some sent, some copied by the endpoint.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::plan::{Plan, PlannedPart};
use super::{ObjectError, Put};
use crate::understore::{Condition, Part, PartsUpload, Properties, SourceVersion, UnderStoreError, Written};

/// Parts on the way at once; those that are sent wait for room besides.
const PARTS_AT_ONCE: usize = 4;

impl Put {
    pub(super) async fn write_parts(
        &self,
        condition: &Condition,
        properties: &Properties,
        plan: &Plan,
        sources: &[Arc<SourceVersion>],
    ) -> Result<(Written, Option<u32>), ObjectError> {
        let mut upload = self.store.begin(&self.order.key, properties).await?;
        let outcome = match self.make_parts(upload.as_ref(), plan, sources).await {
            Ok(parts) => {
                let crc32c = self.crc32c_of(plan, &parts);
                let completed = upload.complete(condition, &parts, self.order.length, crc32c).await;
                completed.map(|written| (written, crc32c)).map_err(ObjectError::from)
            }
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            upload.abort().await;
        }
        outcome
    }

    async fn make_parts(
        &self,
        upload: &dyn PartsUpload,
        plan: &Plan,
        sources: &[Arc<SourceVersion>],
    ) -> Result<Vec<Part>, ObjectError> {
        let parts = (1_u16..).zip(plan.parts.clone());
        let made = futures::stream::iter(parts)
            .map(|(number, part)| self.make_part(upload, number, part, sources))
            .buffered(PARTS_AT_ONCE);
        made.try_collect().await
    }

    async fn make_part(
        &self,
        upload: &dyn PartsUpload,
        number: u16,
        part: PlannedPart,
        sources: &[Arc<SourceVersion>],
    ) -> Result<Part, ObjectError> {
        match part {
            PlannedPart::Send(range) => {
                let _room = self.buffers.take(range.end - range.start).await;
                let bytes = self.content.read(range).await?;
                Ok(upload.send(number, bytes).await?)
            }
            PlannedPart::Copy { source, from } => {
                let source = sources.get(source).ok_or(ObjectError::Malformed { field: "pieces" })?;
                upload.copy(number, source, from).await.map_err(|error| match error {
                    UnderStoreError::PreconditionFailed { .. } | UnderStoreError::NoSuchKey { .. } => {
                        ObjectError::SourceChanged { source_version: SourceVersion::clone(source) }
                    }
                    other => other.into(),
                })
            }
        }
    }

    /// Of all bytes, put together from the parts': known when all of them are, and those of the copied ones are
    /// told by an endpoint that is believed.
    fn crc32c_of(&self, plan: &Plan, parts: &[Part]) -> Option<u32> {
        if plan.copied() > 0 && !self.order.terms.abilities.crc32c {
            return None;
        }
        plan.parts.iter().zip(parts).try_fold(0, |crc32c, (planned, part)| {
            let length = usize::try_from(planned.length()).ok()?;
            Some(crc32c::crc32c_combine(crc32c, part.crc32c?, length))
        })
    }
}
