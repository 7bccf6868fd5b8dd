use super::*;

fn parse(list: &str) -> MountSettings {
    MountSettings::parse(&[list]).unwrap()
}

fn refusal(list: &str) -> String {
    MountSettings::parse(&[list]).unwrap_err().to_string()
}

#[test]
fn nothing_said_is_safe() {
    let settings = parse("");
    assert_eq!(settings.flags(), MountFlags::NOSUID | MountFlags::NODEV);
    assert_eq!(settings.access, Access::Owner);
    assert!(settings.vfs.hard && !settings.insecure && !settings.nonempty && !settings.remount);
    assert_eq!(settings.default_permissions, None);
}

#[test]
fn flags_of_mount() {
    for (list, flags) in [
        ("ro", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY),
        ("ro,rw", MountFlags::NOSUID | MountFlags::NODEV),
        ("suid,dev", MountFlags::empty()),
        ("suid,nosuid,dev", MountFlags::NOSUID),
        ("noexec,noatime,dev,suid", MountFlags::NOEXEC | MountFlags::NOATIME),
    ] {
        assert_eq!(parse(list).flags(), flags, "{list}");
    }
    assert_eq!(parse("rw,exec").cleared, MountFlags::RDONLY | MountFlags::NOEXEC);
    assert_eq!(parse("rw,ro").cleared, MountFlags::empty());
}

#[test]
fn synchronous_mounts_are_synchronous_on_the_server() {
    assert_eq!((parse("sync").vfs.sync, parse("sync").vfs.dirsync), (true, true));
    assert_eq!((parse("dirsync").vfs.sync, parse("dirsync").vfs.dirsync), (false, true));
    assert_eq!((parse("sync,async").vfs.sync, parse("rw").vfs.dirsync), (false, false));
}

#[test]
fn words() {
    assert_eq!(parse("allow_other").access, Access::Other);
    assert_eq!(parse("allow_root").access, Access::Root);
    assert_eq!(parse("default_permissions").default_permissions, Some(true));
    assert_eq!(parse("no_default_permissions").default_permissions, Some(false));
    assert!(!parse("soft").vfs.hard && parse("soft,hard").vfs.hard);
    assert!(parse("nonempty").nonempty && parse("insecure").insecure && parse("remount,ro").remount);
}

#[test]
fn values() {
    let vfs = |list: &str| parse(list).vfs;
    assert_eq!(vfs("uid=1000,gid=5").identity.uid, Some(1000));
    assert_eq!(vfs("uid=1000,gid=5").identity.gid, Some(5));
    assert_eq!(vfs("umask=027").identity.umask, Some(0o027));
    assert_eq!(vfs("timeout=2.5").timeout, Duration::from_millis(2500));
    for (list, expected) in
        [("cache_size=0", 0), ("cache_size=4096", 4096), ("cache_size=2K", 2048), ("cache_size=3m", 3 << 20)]
    {
        assert_eq!(vfs(list).cache_bytes, expected, "{list}");
    }
    assert_eq!(vfs("cache_size=1G").cache_bytes, 1 << 30);
    assert_eq!(vfs("readahead=8M").readahead_bytes, 8 << 20);
    assert_eq!(vfs("nconnect=16").connections, 16);
    for (list, expected) in [
        ("local_lock=none", LocalLock::None),
        ("local_lock=flock", LocalLock::Flock),
        ("local_lock=posix", LocalLock::Posix),
        ("local_lock=all", LocalLock::All),
    ] {
        assert_eq!(vfs(list).local_lock, expected);
    }
    assert_eq!(parse("max_read=128K").max_read_bytes, Some(131_072));
    assert_eq!(parse("write_behind=2M").write_behind_bytes, Some(2 << 20));
    assert_eq!(parse("write_behind=0").write_behind_bytes, Some(0));
    assert_eq!(parse("fsname=a b").fsname.as_deref(), Some("a b"));
}

#[test]
fn nothing_is_believed_longer_than_can_be_promised() {
    let settings = parse("attr_timeout=0.5,entry_timeout=60,negative_timeout=0");
    assert_eq!(settings.vfs.attr_timeout, Duration::from_millis(500));
    assert_eq!(settings.vfs.entry_timeout, TRUST_MAX);
    assert_eq!(settings.vfs.negative_timeout, Duration::ZERO);
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].contains("entry_timeout=60"));
}

#[test]
fn words_of_mount_and_fstab_do_no_harm() {
    let fstab = "defaults,noauto,user,users,nofail,_netdev,x-systemd.automount,x-gvfs-show,comment=a=b";
    let sshfs = "reconnect,ServerAliveInterval=15,ServerAliveCountMax=3,idmap=user,auto_unmount,big_writes";
    for list in [fstab, sshfs, "rw,relatime,user_id=0,group_id=0", " ro , , sync "] {
        assert!(MountSettings::parse(&[list]).is_ok(), "{list}");
    }
    assert!(MountSettings::parse(&["ro", "noexec"]).unwrap().flags().contains(MountFlags::NOEXEC));
}

#[test]
fn what_belongs_elsewhere_names_the_way() {
    for (list, instead) in [
        ("port=22", "nearfs://host:port/"),
        ("idmap=file", "--identity"),
        ("IdentityFile=/k", "~/.ssh/config"),
        ("max_conns=4", "nconnect="),
        ("timeo=600", "timeout="),
        ("nolock", "local_lock=all"),
        ("cache=no", "cache_size="),
    ] {
        let line = refusal(list);
        assert!(line.contains(instead) && line.contains(list), "{line}");
    }
}

#[test]
fn sloppy_passes_over_what_does_not_exist_but_not_over_nonsense() {
    let settings = MountSettings::parse_known(&["frobnicate,vers=4,ro"]).unwrap();
    assert!(settings.flags().contains(MountFlags::RDONLY));
    assert!(MountSettings::parse_known(&["uid=me"]).is_err());
}

#[test]
fn bad_options_are_named() {
    for list in ["frobnicate", "frob=1", "uid", "hard=1", "ro=1", "Reconnect"] {
        assert!(refusal(list).starts_with(&format!("unknown mount option {list:?}")), "{list}");
    }
    for list in [
        "uid=me",
        "gid=",
        "umask=888",
        "umask=7777",
        "timeout=0",
        "timeout=-1",
        "timeout=1e3",
        "timeout=inf",
        "timeout=99999999",
        "attr_timeout=x",
        "cache_size=",
        "cache_size=10X",
        "cache_size=-1",
        "cache_size=99999999999G",
        "readahead=a",
        "max_read=1",
        "write_behind=x",
        "max_read=9G",
        "nconnect=0",
        "nconnect=17",
        "local_lock=both",
        "fsname=",
    ] {
        let line = refusal(list);
        assert!(line.contains(list) && line.contains("wants"), "{line}");
    }
}

#[test]
fn tables_do_not_contradict_each_other() {
    for (name, ..) in FLAGS {
        assert!(!HARMLESS.contains(name), "{name}");
    }
    for (name, _) in ELSEWHERE {
        assert!(!HARMLESS.contains(name), "{name}");
        assert!(!FLAGS.iter().any(|(flag, ..)| flag == name), "{name}");
    }
}
