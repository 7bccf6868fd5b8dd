//! How the configured memory is shared out.

/// Most bytes that all metadata caches take together, however much is configured.
const METADATA_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that each cache may hold, its own overhead included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// File content.
    pub block_bytes_max: u64,
    /// Attributes.
    pub attr_bytes_max: u64,
    /// Names, present and absent.
    pub dentry_bytes_max: u64,
    /// Directories of which all names are known.
    pub complete_bytes_max: u64,
    /// Symlink targets.
    pub target_bytes_max: u64,
    /// Extended attributes.
    pub xattr_bytes_max: u64,
}

impl CacheLimits {
    /// Shares out `cache_size=`: a quarter for metadata, the rest for content. With 0 nothing is kept.
    pub fn from_cache_bytes(cache_bytes_max: u64) -> CacheLimits {
        let metadata = (cache_bytes_max / 4).min(METADATA_BYTES_MAX);
        CacheLimits {
            block_bytes_max: cache_bytes_max - metadata,
            attr_bytes_max: metadata / 16 * 8,
            dentry_bytes_max: metadata / 16 * 5,
            complete_bytes_max: metadata / 16,
            target_bytes_max: metadata / 16,
            xattr_bytes_max: metadata / 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_whole() {
        for cache_bytes_max in [0, 1, 15, 4096, 1 << 20, 64 << 20, (1 << 30) + 7, 1 << 40] {
            let limits = CacheLimits::from_cache_bytes(cache_bytes_max);
            let CacheLimits { block_bytes_max, attr_bytes_max, dentry_bytes_max, .. } = limits;
            let CacheLimits { complete_bytes_max, target_bytes_max, xattr_bytes_max, .. } = limits;
            let sum = block_bytes_max
                + attr_bytes_max
                + dentry_bytes_max
                + complete_bytes_max
                + target_bytes_max
                + xattr_bytes_max;
            assert!(sum <= cache_bytes_max);
            assert!(sum + 16 * 4 >= cache_bytes_max);
        }
    }
}
