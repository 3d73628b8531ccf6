//! `ListObjects`: a page of a mounted bucket as its endpoint lists it, and which of its keys have no names.

use cairn_proto::{ServiceError, WireError, v1};

use crate::import::{LeftOut, hides};
use crate::node::Node;
use crate::understore::{LIST_PAGE_MAX, ListPage, ListRequest, MountBucket};

/// One page.
///
/// # Errors
/// [`ServiceError::UnderStore`] when the endpoint does not answer, or refuses.
pub(super) async fn page(
    node: &Node,
    asked: v1::ListObjectsRequest,
) -> Result<v1::ListObjectsReply, WireError> {
    let bucket = MountBucket::from(&asked);
    let request = ListRequest {
        prefix: asked.prefix.clone(),
        delimiter: true,
        continuation: Some(asked.continuation).filter(|at| !at.is_empty()),
        max: LIST_PAGE_MAX,
        ..ListRequest::default()
    };
    let listed = node.cache.mounted(&bucket).list(&request).await;
    let listed = listed.map_err(|error| {
        tracing::warn!(bucket = bucket.bucket, prefix = asked.prefix, %error, "list a mounted bucket");
        WireError::from(ServiceError::UnderStore)
    })?;
    Ok(named(&asked.prefix, asked.root, listed))
}

/// What the import makes of the keys, but for objects whose name a directory has: whoever puts the pages together
/// sees those.
fn named(prefix: &str, root: bool, page: ListPage) -> v1::ListObjectsReply {
    let mut reply = v1::ListObjectsReply {
        continuation: page.continuation.unwrap_or_default(),
        ..v1::ListObjectsReply::default()
    };
    for object in page.objects {
        let Some(name) = object.key.strip_prefix(prefix) else { continue };
        let why = match name {
            "" if object.size == 0 => continue,
            "" => Some(LeftOut::MarkerWithBytes),
            name => LeftOut::of(name),
        };
        match why {
            Some(why) => reply.left_out.push(left_out(object.key.clone(), why)),
            None => reply.objects.push(v1::ListedObject {
                name: name.to_owned(),
                etag: object.etag,
                size: object.size,
                mtime_ns: object.mtime.0,
            }),
        }
    }
    for key in page.prefixes {
        let Some(name) = key.strip_prefix(prefix) else { continue };
        let name = name.strip_suffix('/').unwrap_or(name);
        match LeftOut::of(name) {
            Some(why) => reply.left_out.push(left_out(key.clone(), why)),
            None if root && hides(name) => {}
            None => reply.directories.push(name.to_owned()),
        }
    }
    reply
}

fn left_out(key: String, why: LeftOut) -> v1::LeftOutKey {
    v1::LeftOutKey { key, why: why.why().to_owned() }
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::*;
    use crate::understore::ListedObject;

    #[test]
    fn a_page_names_what_has_no_name_and_hides_what_is_on_its_way() {
        let object = |key: &str, size| ListedObject {
            key: key.to_owned(),
            size,
            etag: "e".to_owned(),
            mtime: Timestamp(7),
        };
        let page = ListPage {
            objects: vec![object("p/", 3), object("p/a", 1), object("p/..", 1), object("elsewhere", 1)],
            prefixes: vec!["p//".to_owned(), "p/d/".to_owned(), "p/.cairn-temporary/".to_owned()],
            continuation: Some("next".to_owned()),
        };
        let reply = named("p/", true, page.clone());
        assert_eq!(reply.objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!((reply.directories, reply.continuation.as_str()), (vec!["d".to_owned()], "next"));
        let keys: Vec<&str> = reply.left_out.iter().map(|l| l.key.as_str()).collect();
        assert_eq!(keys, ["p/", "p/..", "p//"]);
        // Below the root it is a name like others.
        assert_eq!(named("p/", false, page).directories, ["d", ".cairn-temporary"]);
        let marker = ListPage { objects: vec![object("p/", 0)], ..ListPage::default() };
        assert_eq!(named("p/", false, marker), v1::ListObjectsReply::default());
    }
}
