//! Extended attributes.

use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{Reply, Request, XattrMode};

use crate::support::{Client, Export, client, is_root, user};

fn set(client: &Client, node: Node, name: &str, value: &[u8], mode: XattrMode) -> Result<Reply, Errno> {
    let request = Request::SetXattr { node, name: name.into(), mode };
    client.ask_with(request, value.to_vec()).map(|(reply, _)| reply)
}

fn get(client: &Client, node: Node, name: &str) -> Result<Vec<u8>, Errno> {
    client.ask_with(Request::GetXattr { node, name: name.into() }, Vec::new()).map(|(_, value)| value)
}

fn list(client: &Client, node: Node) -> Vec<u8> {
    client.ask_with(Request::ListXattr { node }, Vec::new()).unwrap().1
}

#[test]
fn attributes_are_kept() {
    let (_served, client) = client();
    let (_, attr) = client.create("f", 0o644, 0).unwrap();
    let node = attr.node;
    assert_eq!(list(&client, node), b"");
    assert_eq!(get(&client, node, "user.a"), Err(Errno::ENODATA));
    assert_eq!(set(&client, node, "user.a", b"1", XattrMode::Replace), Err(Errno::ENODATA));
    set(&client, node, "user.a", b"1", XattrMode::Create).unwrap();
    assert_eq!(set(&client, node, "user.a", b"1", XattrMode::Create), Err(Errno::EEXIST));
    set(&client, node, "user.a", &[5; 3000], XattrMode::Set).unwrap();
    set(&client, node, "user.empty", b"", XattrMode::Set).unwrap();
    assert_eq!(get(&client, node, "user.a").unwrap(), [5; 3000]);
    assert_eq!(get(&client, node, "user.empty").unwrap(), b"");
    assert_eq!(list(&client, node).split(|&byte| byte == 0).filter(|name| !name.is_empty()).count(), 2);
    assert_eq!(set(&client, node, "user.b", &[0; 65537], XattrMode::Set), Err(Errno::E2BIG));
    let remove = Request::RemoveXattr { node, name: b"user.a".to_vec() };
    assert_eq!(client.ask(remove.clone()), Ok(Reply::Done));
    assert_eq!(client.ask(remove), Err(Errno::ENODATA));
    assert_eq!(set(&client, node, "nonsense", b"", XattrMode::Set), Err(Errno::EOPNOTSUPP));
    assert_eq!(get(&client, node, "security.selinux"), Err(Errno::EOPNOTSUPP));
}

#[test]
fn trusted_attributes_are_for_root() {
    if !is_root() {
        return;
    }
    let served = Export::new(Identity::Passthrough);
    let root = served.client();
    let (_, attr) = root.create("f", 0o666, 0).unwrap();
    let other = root.acting_as(user(1234));
    set(&root, attr.node, "trusted.t", b"secret", XattrMode::Set).unwrap();
    set(&other, attr.node, "user.u", b"", XattrMode::Set).unwrap();
    assert_eq!(get(&root, attr.node, "trusted.t").unwrap(), b"secret");
    assert_eq!(get(&other, attr.node, "trusted.t"), Err(Errno::ENODATA));
    assert_eq!(set(&other, attr.node, "trusted.t", b"", XattrMode::Set), Err(Errno::EPERM));
    let (_, own) = other.create("own", 0o755, 0).unwrap();
    assert_eq!(set(&other, own.node, "security.capability", b"x", XattrMode::Set), Err(Errno::EPERM));
    assert_eq!(list(&other, attr.node), b"user.u\0");
    assert!(list(&root, attr.node).windows(9).any(|name| name == b"trusted.t"));
}
