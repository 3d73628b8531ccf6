//! What a watcher that said who it is may be told of what lies below.

use cairn_proto::v1;
use cairn_proto::v1::WatchKind;
use cairn_proto::v1::mutate_request::Operation;

use super::watch::{Watch, done, rename, request, unlink};
use super::{Cluster, at, create, eventually};

fn made(path: &str, mode: u32) -> Operation {
    Operation::Mkdir(v1::Mkdir { target: at(path), mode, ..Default::default() })
}

fn chmod(path: &str, mode: u32) -> Operation {
    Operation::SetAttr(v1::SetAttr { target: at(path), mode: Some(mode), ..Default::default() })
}

fn exchange(from: &str, to: &str) -> Operation {
    Operation::Rename(v1::Rename { from: at(from), to: at(to), no_replace: false, exchange: true })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recursive_watch_tells_no_names_of_directories_that_its_user_may_not_list() {
    let cluster = Cluster::start().await;
    let root = cluster.session().await;
    // `blind` may be searched and not listed, `listed` listed and not searched.
    let directories = [
        ("/w", 0o755),
        ("/w/open", 0o755),
        ("/w/shut", 0o700),
        ("/w/shut/in", 0o777),
        ("/w/blind", 0o711),
        ("/w/blind/in", 0o755),
        ("/w/listed", 0o744),
    ];
    for (path, mode) in directories {
        root.mutate(made(path, mode)).await.expect("made");
    }
    let user = cluster.session_as(Some(v1::Credentials { uid: 7, gid: 7, groups: vec![] })).await;
    let asked = v1::WatchRequest { session: user.id, ..request("/w", true, None) };
    let mut watch = Watch::open(&cluster, asked.clone()).await.expect("a watch");
    let mut whole = Watch::open(&cluster, request("/w", true, None)).await.expect("of nobody in particular");
    let from = watch.index;
    let changes = vec![
        create("/w/f"),
        create("/w/open/a"),
        create("/w/shut/secret"),
        create("/w/shut/in/secret"),
        create("/w/blind/secret"),
        create("/w/blind/in/b"),
        create("/w/listed/secret"),
        // Its own attributes are seen where its name is.
        chmod("/w/shut/secret", 0o600),
        chmod("/w/shut", 0o701),
        chmod("/w/shut", 0o700),
        // Over the edge of what is seen: the side that is not is not named.
        rename("/w/open/a", "/w/shut/hidden"),
        rename("/w/shut/secret", "/w/open/shown"),
        rename("/w/shut/hidden", "/w/shut/in/hidden"),
        exchange("/w/open/shown", "/w/blind/secret"),
        unlink("/w/shut/in/secret"),
        unlink("/w/f"),
    ];
    let count = changes.len();
    done(&root, changes).await;
    let wanted = [
        "created f",
        "created a",
        "created b",
        "attributes shut",
        "attributes shut",
        "renamed a",
        "renamed >shown (in)",
        "exchanged shown",
        "removed f",
    ];
    assert_eq!(watch.all(wanted.len()).await, wanted);
    assert_eq!(whole.all(count).await.len(), count, "all of it is told to one that is not checked");
    drop((whole, watch));
    // The same when it is read again, and no byte of a name that may not be seen.
    let again = v1::WatchRequest { after_index: Some(from), ..asked };
    // There are two watches on a server of a test: one that is let go is seen a moment later.
    let open = async || Watch::open(&cluster, again.clone()).await.ok();
    let mut watch = eventually("room for a watch", open).await;
    let told = watch.events(wanted.len()).await;
    for event in &told {
        assert_eq!(
            (event.inside, event.name.is_empty()),
            (event.parent != 0, event.parent == 0),
            "{event:?}"
        );
        let to = (event.to_name.is_empty(), event.to_parent == 0);
        assert_eq!(to, (!event.to_inside, !event.to_inside), "{event:?}");
        assert!(
            ![&event.name, &event.to_name]
                .iter()
                .any(|name| name.starts_with(b"secret") || name.starts_with(b"hidden"))
        );
    }
    let kinds = told.iter().filter(|event| event.kind() == WatchKind::Renamed).count();
    assert_eq!(kinds, 2);
    // What may be seen from now on is told from now on, and no more when it may not.
    done(&root, vec![chmod("/w/shut", 0o755), create("/w/shut/later")]).await;
    assert_eq!(watch.all(2).await, ["attributes shut", "created later"]);
    done(&root, vec![chmod("/w/shut", 0o700), create("/w/shut/latest"), create("/w/end")]).await;
    assert_eq!(watch.all(2).await, ["attributes shut", "created end"]);
}
