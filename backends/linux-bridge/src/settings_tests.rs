use super::*;

fn settings(netns: &Netns, dir: &Path, boot: &str) -> HostSettings {
    HostSettings::load(netns.try_clone().unwrap(), dir, boot).unwrap()
}

fn forwarding(netns: &Netns) -> String {
    sysctl::read(netns, "ipv4/ip_forward").unwrap().unwrap()
}

fn host_that_does_not_forward() -> (Netns, tempfile::TempDir) {
    let netns = Netns::create().unwrap();
    sysctl::write(&netns, "ipv4/ip_forward", "0").unwrap();
    (netns, tempfile::tempdir().unwrap())
}

#[test]
fn a_setting_is_restored_by_a_process_that_did_not_change_it() {
    let (netns, dir) = host_that_does_not_forward();
    settings(&netns, dir.path(), "boot").hold("ipv4/ip_forward", "1").unwrap();
    assert_eq!(forwarding(&netns), "1");

    let mut next = settings(&netns, dir.path(), "boot");
    next.hold("ipv4/ip_forward", "1").unwrap();
    next.restore().unwrap();
    assert_eq!(forwarding(&netns), "0");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_crash_between_memory_and_change_does_not_make_our_value_the_hosts() {
    let (netns, dir) = host_that_does_not_forward();
    settings(&netns, dir.path(), "boot").remember("ipv4/ip_forward", "0".into(), Some("1".into())).unwrap();
    let mut next = settings(&netns, dir.path(), "boot");
    next.hold("ipv4/ip_forward", "1").unwrap();
    next.restore().unwrap();
    assert_eq!(forwarding(&netns), "0");
}

#[test]
fn what_was_so_already_stays() {
    let (netns, dir) = host_that_does_not_forward();
    sysctl::write(&netns, "ipv4/ip_forward", "1").unwrap();
    let mut settings = settings(&netns, dir.path(), "boot");
    settings.hold("ipv4/ip_forward", "1").unwrap();
    settings.restore().unwrap();
    assert_eq!(forwarding(&netns), "1");
}

#[test]
fn what_somebody_else_changed_since_is_left_to_them() {
    let (netns, dir) = host_that_does_not_forward();
    let mut settings = settings(&netns, dir.path(), "boot");
    settings.hold("ipv4/conf/lo/rp_filter", "1").unwrap();
    sysctl::write(&netns, "ipv4/conf/lo/rp_filter", "2").unwrap();
    settings.restore().unwrap();
    assert_eq!(sysctl::read(&netns, "ipv4/conf/lo/rp_filter").unwrap().as_deref(), Some("2"));
}

#[test]
fn the_memory_of_another_boot_restores_nothing() {
    let (netns, dir) = host_that_does_not_forward();
    settings(&netns, dir.path(), "one").hold("ipv4/ip_forward", "1").unwrap();
    settings(&netns, dir.path(), "two").restore().unwrap();
    assert_eq!(forwarding(&netns), "1");
}

#[test]
fn a_damaged_memory_is_an_error_that_names_the_file() {
    let (netns, dir) = host_that_does_not_forward();
    fs::write(dir.path().join("host-settings.json"), "{").unwrap();
    let error = HostSettings::load(netns, dir.path(), "boot").unwrap_err();
    assert!(error.to_string().contains("host-settings.json"), "{error}");
}
