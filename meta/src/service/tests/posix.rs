//! Special files and extended attributes over the wire.

use cairn_proto::v1::mutate_request::Operation;
use cairn_proto::v1::{self, FileKind};
use cairn_proto::{ServiceError, WireError};
use cairn_types::FsError;

use super::{Cluster, at, create};

fn set(path: &str, name: &'static str, value: &'static str) -> v1::SetXattr {
    v1::SetXattr { target: at(path), name: name.into(), value: value.into(), ..Default::default() }
}

impl Cluster {
    async fn xattr(&self, path: &str, name: &'static str) -> Result<Vec<u8>, WireError> {
        let message = v1::GetXattrRequest { target: at(path), name: name.into(), ..Default::default() };
        Ok(self.meta.clone().get_xattr(self.request(message)).await?.into_inner().value.to_vec())
    }

    async fn xattrs(&self, path: &str) -> Vec<Vec<u8>> {
        let message = v1::ListXattrsRequest { target: at(path), ..Default::default() };
        let reply = self.meta.clone().list_xattrs(self.request(message)).await.expect("a list");
        reply.into_inner().names.into_iter().map(|name| name.to_vec()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_attributes_are_set_read_listed_and_removed_over_the_wire() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    let before = session.create("/f").await;
    let reply = session.mutate(Operation::SetXattr(set("/f", "user.a", "1"))).await.expect("set");
    assert!(reply.inode.expect("an inode").version > before.version);
    session.mutate(Operation::SetXattr(set("/f", "trusted.b", "2"))).await.expect("set");
    assert_eq!(cluster.xattr("/f", "user.a").await, Ok(b"1".to_vec()), "seen as soon as it is acknowledged");
    assert_eq!(cluster.xattrs("/f").await, [b"trusted.b".to_vec(), b"user.a".to_vec()]);
    let again = v1::SetXattr { create: true, ..set("/f", "user.a", "3") };
    assert_eq!(session.mutate(Operation::SetXattr(again)).await, Err(WireError::Fs(FsError::Exists)));
    let missing = v1::SetXattr { replace: true, ..set("/f", "user.c", "3") };
    let missing = session.mutate(Operation::SetXattr(missing)).await;
    assert_eq!(missing, Err(WireError::Fs(FsError::NoSuchAttribute)));
    let remove = v1::RemoveXattr { target: at("/f"), name: "user.a".into() };
    session.mutate(Operation::RemoveXattr(remove)).await.expect("removed");
    assert_eq!(cluster.xattr("/f", "user.a").await, Err(WireError::Fs(FsError::NoSuchAttribute)));
    assert_eq!(cluster.xattr("/f", "other.a").await, Err(WireError::Fs(FsError::NotSupported)));
    assert_eq!(cluster.xattr("/g", "user.a").await, Err(WireError::Fs(FsError::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_files_are_made_and_found_with_their_numbers_over_the_wire() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.mutate(create("/f")).await.expect("made");
    let device = Some(v1::DeviceNumber { major: 8, minor: 17 });
    let node = v1::Mknod {
        target: at("/sdb1"),
        kind: FileKind::BlockDevice.into(),
        device,
        mode: 0o660,
        uid: 0,
        gid: 6,
    };
    session.mutate(Operation::Mknod(node.clone())).await.expect("made");
    let found = cluster.inode("/sdb1").await;
    assert_eq!((found.kind(), found.device, found.mode), (FileKind::BlockDevice, device, 0o660));
    let listed = cluster.list("/", "f", 0).await.expect("a listing");
    assert_eq!(listed[0].entries[0].inode.as_ref().expect("an inode"), &found);
    let file = v1::Mknod { target: at("/x"), kind: FileKind::File.into(), device: None, ..node };
    let refused = session.mutate(Operation::Mknod(file.clone())).await;
    assert_eq!(refused, Err(WireError::Fs(FsError::InvalidRequest)));
    let unknown = session.mutate(Operation::Mknod(v1::Mknod { kind: 99, ..file })).await;
    let malformed = ServiceError::Malformed { field: "inode.kind".into() };
    assert_eq!(unknown, Err(WireError::Service(malformed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_credentials_is_checked_and_so_are_reads_that_name_it() {
    let cluster = Cluster::start().await;
    let free = cluster.session().await;
    let private = v1::Mkdir { target: at("/private"), mode: 0o700, uid: 5, gid: 5, parents: false };
    free.mutate(Operation::Mkdir(private)).await.expect("made");
    free.create("/private/f").await;
    let denied = || WireError::Fs(FsError::PermissionDenied);
    let credentials = |uid| Some(v1::Credentials { uid, gid: 5, groups: vec![7] });
    let (other, owner) = (cluster.session_as(credentials(6)).await, cluster.session_as(credentials(5)).await);
    assert_eq!(other.mutate(create("/private/g")).await, Err(denied()));
    let made = owner.mutate(create("/private/g")).await.expect("made").inode.expect("an inode");
    assert_eq!((made.uid, made.gid), (5, 5));
    let stat = async |session| {
        let message = v1::StatRequest { target: at("/private/f"), session, ..Default::default() };
        let reply = cluster.meta.clone().stat(cluster.request(message)).await;
        reply.map(drop).map_err(WireError::from)
    };
    assert_eq!(stat(other.id).await, Err(denied()));
    assert_eq!(stat(owner.id).await, Ok(()));
    assert_eq!((stat(free.id).await, stat(0).await), (Ok(()), Ok(())), "nothing is checked");
    assert_eq!(stat(u64::MAX).await, Err(WireError::Fs(FsError::SessionExpired)));
    let list = v1::ListRequest { target: at("/private"), session: other.id, ..Default::default() };
    let refused = cluster.meta.clone().list(cluster.request(list)).await.map(drop);
    assert_eq!(refused.map_err(WireError::from), Err(denied()));
    let extents = v1::ExtentsRequest { target: at("/private/f"), session: other.id, ..Default::default() };
    let refused = cluster.meta.clone().extents(cluster.request(extents)).await.map(drop);
    assert_eq!(refused.map_err(WireError::from), Err(denied()));
    let many = v1::Credentials { uid: 1, gid: 1, groups: vec![1; 1025] };
    let open = v1::OpenSessionRequest { client: "c".into(), credentials: Some(many), holds_files: false };
    let refused = cluster.meta.clone().open_session(cluster.request(open)).await.map(drop);
    let malformed = ServiceError::Malformed { field: "credentials.groups".into() };
    assert_eq!(refused.map_err(WireError::from), Err(WireError::Service(malformed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_is_told_with_the_inodes() {
    let cluster = Cluster::start().await;
    let session = cluster.session().await;
    session.create("/f").await;
    let request = cluster.request(v1::StatFsRequest {});
    let room = cluster.meta.clone().stat_fs(request).await.expect("an answer").into_inner();
    assert_eq!((room.inodes, room.replicas, room.data_nodes), (2, 3, 0));
    assert_eq!((room.capacity_bytes, room.free_bytes), (0, 0), "no data node has registered");
}
