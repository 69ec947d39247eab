//! Slots: the parts of the key space that a cluster spreads over its nodes. Pure.

/// The number of slots of every cluster.
pub(super) const SLOTS: u16 = 16_384;

/// One of the slots. All keys of a semaphore are in the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u16);

impl Slot {
    /// Returns the slot of this number; `None` if no cluster has it.
    pub(super) fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// Returns the slot of a semaphore. Its name is the hash tag of its keys.
    pub(super) fn of(name: &str) -> Self {
        Self(crc16(name.as_bytes()) % SLOTS)
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

/// The CRC of 16 bits that the specification of Redis Cluster names: XMODEM, with the polynomial 0x1021.
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, &byte: &u8| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)];
    bytes.iter().fold(0, step)
}

/// What each value of the upper byte changes.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
