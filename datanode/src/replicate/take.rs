//! How a primary takes an append: every check in its order (rules R10, R13), then its place in the
//! chunk, then off to all replicas at once.

use cairn_proto::{ServiceError, v1};
use cairn_types::limits::CHUNK_BYTES_MAX;
use cairn_types::{FsError, Generation, Sequence, WriterId};
use futures::FutureExt;

use super::primary::{Closing, End, Primary, Repeat, Waiting};
use super::record;
use super::seal::Reason;
use super::ticket::{Append, Room, Ticket};
use super::writers::{Span, Turn};
use crate::chunk::AppendRecord;

impl Primary {
    /// Takes an append, parks it until the grant is renewed, or refuses it.
    pub(super) fn take(&mut self, append: Append) -> Result<(), End> {
        if !self.parked.is_empty() {
            self.parked.push_back(append);
            return Ok(());
        }
        let writer = WriterId(append.request.writer);
        let Append { request, ticket, room } = append;
        let Some(ticket) = self.check_writer(&request, writer, ticket) else { return Ok(()) };
        if !matches!(self.closing, Closing::No) {
            self.refuse(ticket, ServiceError::ChunkFull { chunk: self.chunk });
            return Ok(());
        }
        if let Some(expected) = request.expected_offset
            && expected != self.length
        {
            self.refuse(ticket, FsError::LengthMismatch { expected, actual: self.length });
            return Ok(());
        }
        let end = self.length + request.data.len() as u64;
        if end > CHUNK_BYTES_MAX {
            self.refuse(ticket, ServiceError::ChunkFull { chunk: self.chunk });
            self.goes_on = true;
            self.drain();
            return Ok(());
        }
        self.renew_if_needed(end);
        if end > self.grant_bytes {
            self.parked.push_back(Append { request, ticket, room });
            return Ok(());
        }
        self.place(request, writer, ticket, room)
    }

    /// The generation, then (writer, sequence); answers what is no new append of a live writer.
    fn check_writer(
        &mut self,
        request: &v1::AppendRequest,
        writer: WriterId,
        ticket: Ticket,
    ) -> Option<Ticket> {
        let committed = self.committed();
        let generation = Generation(request.generation);
        if generation < self.generation {
            let last_sequence = self.writers.decided(writer, committed);
            self.refuse(ticket, FsError::Fenced { generation: self.generation, last_sequence });
            return None;
        }
        if generation > self.generation {
            // The writer's own chunk comes after this one.
            self.refuse(ticket, ServiceError::ChunkFenced { chunk: self.chunk });
            return None;
        }
        match self.writers.turn(writer, Sequence(request.sequence)) {
            Turn::Next => return Some(ticket),
            Turn::Repeated(Span { offset, end }) if end <= committed => ticket.acknowledge(offset, committed),
            Turn::Repeated(Span { offset, end }) => self.repeats.push(Repeat { offset, end, ticket }),
            // What a writer sent after a refused append must not look like its mistake.
            Turn::Gap(_) if !matches!(self.closing, Closing::No) => {
                self.refuse(ticket, ServiceError::ChunkFull { chunk: self.chunk });
            }
            Turn::Gap(expected) => self.refuse(ticket, ServiceError::SequenceGap { expected }),
            Turn::TooMany => self.refuse(ticket, FsError::TooManyWriters),
        }
        None
    }

    /// Asks for a doubled grant once half of it is used (R13).
    fn renew_if_needed(&mut self, end: u64) {
        let wanted = end > self.grant_bytes || (self.renew_ahead && end > self.grant_bytes / 2);
        if !wanted || self.grant_bytes >= CHUNK_BYTES_MAX || self.renewal.is_some() {
            return;
        }
        let bytes = self.grant_bytes.saturating_mul(2).max(end.next_power_of_two()).min(CHUNK_BYTES_MAX);
        let (grants, chunk, epoch) = (self.context.grants.clone(), self.chunk, self.epoch);
        let renewal = async move {
            let granted = grants.renew(chunk, epoch, bytes).await?;
            if !granted.pause.is_zero() {
                metrics::counter!("cairn_data_grant_pauses_total").increment(1);
                tokio::time::sleep(granted.pause).await;
            }
            Ok::<_, cairn_proto::WireError>(granted.bytes)
        };
        self.renewal = Some(renewal.boxed());
    }

    /// The grant was renewed, or not: what was parked is taken, or the chunk is rolled.
    pub(super) fn granted(&mut self, granted: Result<u64, cairn_proto::WireError>) -> Result<(), End> {
        let before = self.grant_bytes;
        match granted {
            Ok(bytes) => self.grant_bytes = bytes.min(CHUNK_BYTES_MAX).max(before),
            Err(error) => tracing::warn!(chunk = self.chunk.0, %error, "renew the grant"),
        }
        self.renew_ahead = self.grant_bytes > before;
        if !self.renew_ahead && !self.parked.is_empty() {
            self.drain();
        }
        std::mem::take(&mut self.parked).into_iter().try_for_each(|append| self.take(append))
    }

    /// Gives the append its offset and sends it to every replica.
    fn place(
        &mut self,
        request: v1::AppendRequest,
        writer: WriterId,
        ticket: Ticket,
        room: Room,
    ) -> Result<(), End> {
        let committed = self.committed();
        let mut record = AppendRecord {
            chunk: self.chunk,
            epoch: self.epoch,
            offset: self.length,
            generation: self.generation,
            writer,
            sequence: Sequence(request.sequence),
            payload_crc32c: request.crc32c,
            previous_chain: self.chain,
            chain: self.chain,
            committed,
            payload: request.data,
            close: false,
        };
        record.chain = record.next_chain();
        let span = Span { offset: record.offset, end: record.end() };
        self.writers.take(writer, span);
        self.length = span.end;
        self.chain = record.chain;
        let since = self.context.clock.boottime();
        self.taken = since;
        self.prepare_next(since);
        self.waiting.push_back(Waiting { offset: span.offset, end: span.end, since, ticket, _room: room });
        self.send_everywhere(record, request.trace)
    }

    /// Forwards a record to every secondary, with the trace id of its append, and submits it to this node's own
    /// segments.
    pub(super) fn send_everywhere(&mut self, record: AppendRecord, trace: u64) -> Result<(), End> {
        self.told = record.committed;
        for link in &self.links {
            let message = v1::replicate_request::Message::Record(record::to_wire(&record));
            if !link.send_for(message, trace) {
                return Err(End::Trouble { reason: Reason::Broken, blame: Some(link.node) });
            }
        }
        self.stored.push_back(self.context.store.append(record));
        Ok(())
    }
}
