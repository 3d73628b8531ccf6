//! The invariants of a file.

use super::setup::{File, Role};
use super::state::{Chunk, Extent, Phase, State};
use crate::invariant::Invariant;

/// The first invariant that this state breaks.
pub(super) fn broken(model: &File, state: &State) -> Option<Invariant> {
    let chunks = &state.chunks[..model.chunks];
    let checks = [
        (!acknowledged_inside(chunks, state), Invariant::AcknowledgedInsideSeal),
        (twice(chunks), Invariant::OnceOnly),
        (out_of_order(chunks), Invariant::WriterOrder),
        (state.acknowledged_late, Invariant::FencedNeverAcknowledged),
        (!ends_exactly(model, chunks, state), Invariant::ExactEnd),
        (!one_owner(model, chunks, state), Invariant::OneOwner),
        (state.length_stale, Invariant::LengthNotStale),
    ];
    checks.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, invariant)| invariant)
}

/// R5: what was acknowledged in a chunk lies, after its seal, at its offset.
fn acknowledged_inside(chunks: &[Chunk], state: &State) -> bool {
    state.acknowledged.iter().enumerate().all(|(writer, told)| {
        (1_u8..).zip(told).filter(|(_, told)| **told > 0).all(|(sequence, told)| {
            let chunk = &chunks[usize::from((told - 1) / 4)];
            let here = chunk.content().get((told - 1) % 4);
            chunk.extent != Extent::Sealed
                || here.is_some_and(|record| record.value == sequence && usize::from(record.header) == writer)
        })
    })
}

/// R10: a writer's sequence that the file has twice.
fn twice(chunks: &[Chunk]) -> bool {
    let mut met = 0_u16;
    chunks.iter().flat_map(|chunk| chunk.content().records()).any(|record| {
        let bit = 1 << (record.header * 4 + record.value);
        let again = met & bit != 0;
        met |= bit;
        again
    })
}

/// R2: a writer's sequences follow one another without gaps.
fn out_of_order(chunks: &[Chunk]) -> bool {
    let mut last = [0_u8; 4];
    chunks.iter().flat_map(|chunk| chunk.content().records()).any(|record| {
        let last = &mut last[usize::from(record.header)];
        *last += 1;
        *last != record.value
    })
}

/// The exclusive writers that were told where the file ends.
fn owners<'a>(model: &'a File, state: &'a State) -> impl Iterator<Item = (usize, u8)> + 'a {
    let opened = model.writers.iter().zip(&state.writers);
    let owners = opened.filter(|(role, writer)| **role == Role::Exclusive && writer.phase == Phase::Writing);
    owners.map(|(_, writer)| (usize::from(writer.end), writer.generation))
}

/// R11: from that end on nobody of an older generation is taken.
fn ends_exactly(model: &File, chunks: &[Chunk], state: &State) -> bool {
    owners(model, state).all(|(end, generation)| {
        let later = chunks[end..].iter().flat_map(|chunk| chunk.content().records());
        later
            .map(|record| state.writers[usize::from(record.header)].generation)
            .all(|writers| writers >= generation)
    })
}

/// R11: the chunk at that end was activated for that owner's generation.
fn one_owner(model: &File, chunks: &[Chunk], state: &State) -> bool {
    owners(model, state).all(|(end, generation)| chunks[end].due == generation)
}
