//! What was measured of software drivers. It goes by name: a choice that hung on a timing at start could differ between a run and its
//! resumption, and with it the bits.

/// Drivers that load from uniform buffers and images faster than from storage buffers: Mesa's llvmpipe (matrix products three to four times
/// faster, on processors where a gather is slow). SwiftShader is slower with images. `benches/results/2026-11-21-drivers.md` has the figures.
const IMAGES_ARE_FASTER: [&str; 1] = ["llvmpipe"];

/// Whether read-only arrays are read from uniform buffers and images on this driver. Those that nobody has measured read storage buffers.
pub(super) fn prefers_images(driver: &str) -> bool {
    IMAGES_ARE_FASTER.iter().any(|name| driver.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::prefers_images;

    #[test]
    fn only_measured_drivers_read_images() {
        assert!(prefers_images("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"));
        assert!(!prefers_images("SwiftShader driver"));
        assert!(!prefers_images(""));
    }
}
