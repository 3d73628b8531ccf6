//! [`Domains`]: what fails together with a data node.

/// What a node shares with others that fail together with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    /// Its zone; the nodes without one share that.
    pub zone: String,
    /// Its machine.
    pub host: String,
    /// Its process: nodes at one address are disks of one.
    pub address: String,
}

/// The machine of a node that says `host`, at a boot of that id.
#[must_use]
pub fn host_of(host: &str, boot_id: [u8; 16]) -> String {
    if !host.is_empty() || boot_id == [0; 16] {
        return host.to_owned();
    }
    boot_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_boot_unless_it_has_a_name() {
        assert_eq!(host_of("rack-7", [1; 16]), "rack-7");
        assert_eq!(host_of("", [0xab; 16]), "ab".repeat(16));
        assert_eq!(host_of("", [0; 16]), "", "a system that tells none");
    }
}
