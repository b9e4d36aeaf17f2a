use std::hash::{DefaultHasher, Hash, Hasher};

use overlayd_core::{contract::Guid, names::InstanceId};

/// A version 8 UUID (RFC 9562) whose first 48 bits are the first 12 digits of the instance id: the mark. The rest
/// derives from what the object is for, so that it can be found and removed without memory.
pub(super) fn derive(instance: &InstanceId, kind: &str, name: &str) -> Guid {
    let mut hasher = DefaultHasher::new();
    (kind, name).hash(&mut hasher);
    let rest = format!("{:016x}", hasher.finish());
    let mark = &instance.as_str()[..12];
    Guid(format!("{}-{}-8{}-8{}-{}0", &mark[..8], &mark[8..], &rest[..3], &rest[3..6], &rest[5..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{first_instance, second_instance};

    #[test]
    fn a_guid_has_the_shape_of_one_and_tells_its_instance() {
        let guid = derive(&first_instance(), "network", "zl-web-b").0;
        let groups: Vec<usize> = guid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(guid.replace('-', "")[..12], first_instance().as_str()[..12]);
        assert_ne!(guid, derive(&second_instance(), "network", "zl-web-b").0);
        assert_ne!(guid, derive(&first_instance(), "namespace", "zl-web-b").0);
    }
}
