//! [`Terms`]: what a mounted bucket's endpoint is relied on for.

use cairn_proto::v1;

/// What an endpoint was found to do, and whether anyone else writes to the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the endpoint does.
    pub abilities: v1::EndpointAbilities,
    /// Nobody else writes: what the endpoint does not look at is looked at before.
    pub sole_writer: bool,
}

impl Terms {
    /// Those of a mounted bucket. Of an endpoint that nobody tells about, what the leader asked for before it
    /// had anything written is believed, and no more.
    #[must_use]
    pub fn of(bucket: &v1::MountedBucket) -> Self {
        let believed = v1::EndpointAbilities {
            put_if_absent: true,
            put_if_match: true,
            complete_if_absent: true,
            complete_if_match: true,
            copy_source_if_match: true,
            delete_if_match: true,
            part_copy: true,
            ..v1::EndpointAbilities::default()
        };
        Self { abilities: bucket.abilities.unwrap_or(believed), sole_writer: bucket.sole_writer }
    }
}
