//! `carrying!`: what an object is to carry, said on each of the requests that make one. Their builders have the
//! same methods and no type in common.

/// Says on `request` what the object of `properties` carries, and how `store` keeps it.
macro_rules! carrying {
    ($request:expr, $store:expr, $properties:expr) => {
        $request
            .set_metadata(Some($properties.metadata.clone().into_iter().collect()))
            .set_content_type($properties.content_type.clone())
            .set_content_encoding($properties.content_encoding.clone())
            .set_content_disposition($properties.content_disposition.clone())
            .set_content_language($properties.content_language.clone())
            .set_cache_control($properties.cache_control.clone())
            .set_tagging($properties.tags.clone().filter(|tags| !tags.is_empty()))
            .set_server_side_encryption($store.keep.sse.clone())
            .set_ssekms_key_id($store.keep.kms_key.clone())
            .set_storage_class($store.keep.storage_class($properties))
    };
}

pub(super) use carrying;
