//! Figures of cards that need not be there: what predictions and estimates are made from.

/// Figures of a card.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CardModel {
    /// Name of its family in RADV.
    pub family: &'static str,
    /// Name of the card.
    pub name: &'static str,
    /// SIMDs of 32 lanes.
    pub simds: f64,
    /// Cycles a second under load.
    pub clock: f64,
    /// Bytes a second of its memory.
    pub memory: f64,
    /// Bytes a second of the Infinity Cache, and its bytes.
    pub infinity: (f64, u64),
    /// Bytes a second of the L2 cache, and its bytes.
    pub l2: (f64, u64),
}

/// Seconds from one launch to the next, barrier included.
pub const LAUNCH: f64 = 4e-6;

/// Cards whose figures are known. Clocks, units, memory and sizes of caches are AMD's. The L2 cache gives 64 bytes a cycle and slice, of
/// which there are 16. The Infinity Cache gives 64 bytes a cycle for each 16-bit channel of the memory: AMD names 16 of them for Navi 21
/// with its 256 bits, 1,987 GB/s at 1.94 GHz. Navi 23 has 128 bits, so 8 of them, and 993 GB/s. Of both, four fifths count as reached:
/// 1,589 and 794 GB/s.
pub const CARDS: [CardModel; 3] = [
    CardModel {
        family: "navi23",
        name: "RX 6600",
        simds: 56.0,
        clock: 2.491e9,
        memory: 224e9,
        infinity: (794e9, 32 << 20),
        l2: (2.04e12, 2 << 20),
    },
    CardModel {
        family: "navi21",
        name: "RX 6800 XT",
        simds: 144.0,
        clock: 2.25e9,
        memory: 512e9,
        infinity: (1589e9, 128 << 20),
        l2: (3.6e12, 4 << 20),
    },
    CardModel {
        family: "gfx1100",
        name: "RX 7900 XTX",
        simds: 192.0,
        clock: 2.5e9,
        memory: 960e9,
        infinity: (2800e9, 96 << 20),
        l2: (4.5e12, 6 << 20),
    },
];

/// The card that the engine is tuned for.
pub const CARD: CardModel = CARDS[0];

/// Bytes of its video memory: the budget of a run that is told no other.
pub const VIDEO_MEMORY: u64 = 8 << 30;

impl CardModel {
    /// The card of an adapter's name, if its figures are known: Mesa adds the name of the chip in brackets, and an RX 6600 XT is not an RX
    /// 6600.
    pub fn of(adapter: &str) -> Option<CardModel> {
        CARDS.into_iter().find(|card| adapter.split(" (").next().is_some_and(|name| name.ends_with(card.name)))
    }

    /// Floating-point operations a second at most.
    pub fn peak(&self) -> f64 {
        2.0 * 32.0 * self.simds * self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_known_by_their_whole_name() {
        let named = |text: &str| CardModel::of(text).map(|card| card.name);
        assert_eq!(named("AMD Radeon RX 6600 (RADV NAVI23)"), Some("RX 6600"));
        assert_eq!(named("AMD Radeon RX 7900 XTX"), Some("RX 7900 XTX"));
        for other in ["AMD Radeon RX 6600 XT (RADV NAVI23)", "AMD Radeon RX 6600M", "llvmpipe (LLVM 15.0.6, 256 bits)"] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
