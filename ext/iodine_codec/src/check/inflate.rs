//! A second reading of DEFLATE (RFC 1951), bit by bit, that knows how far each copy looked back.

/// Inflates whole blocks behind `history`. `None` if they are malformed or look back farther than `window`.
pub(super) fn inflate(input: &[u8], window: usize, history: &mut Vec<u8>) -> Option<()> {
    let mut bits = Bits { input, at: 0 };
    while bits.at < input.len() * 8 {
        let is_last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, history)?,
            1 => coded(&mut bits, &fixed_lengths(), &fixed_distances(), window, history)?,
            2 => {
                let (lengths, distances) = dynamic(&mut bits)?;
                coded(&mut bits, &lengths, &distances, window, history)?;
            }
            _ => return None,
        }
        if is_last {
            bits.align();
        }
    }
    Some(())
}

struct Bits<'i> {
    input: &'i [u8],
    at: usize,
}

impl Bits<'_> {
    /// A number of so many bits, the lowest first.
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for place in 0..count {
            let byte = *self.input.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) -> Option<()> {
    bits.align();
    let length = bits.take(16)?;
    if length ^ bits.take(16)? != 0xffff {
        return None;
    }
    let start = bits.at / 8;
    out.extend_from_slice(bits.input.get(start..start + length)?);
    bits.at += length * 8;
    Some(())
}

/// A Huffman code: how many codes there are of each length, and the symbols in the order of their codes.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Code {
        let mut counts = [0; 16];
        lengths.iter().for_each(|length| counts[*length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Code { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

fn fixed_lengths() -> Code {
    let lengths: Vec<usize> = (0..288)
        .map(|symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        })
        .collect();
    Code::new(&lengths)
}

fn fixed_distances() -> Code {
    Code::new(&[5; 30])
}

fn dynamic(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, codes) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 19];
    for place in &ORDER[..codes] {
        lengths[*place] = bits.take(3)?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let (literals, rest) = lengths.split_at(literals);
    (rest.len() == distances).then(|| (Code::new(literals), Code::new(rest)))
}

fn coded(
    bits: &mut Bits<'_>,
    lengths: &Code,
    distances: &Code,
    window: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    loop {
        match lengths.read(bits)? {
            symbol @ 0..256 => out.push(symbol as u8),
            256 => return Some(()),
            symbol => {
                let length = length(symbol - 257, bits)?;
                let distance = distance(distances.read(bits)?, bits)?;
                if distance > window {
                    return None;
                }
                for _ in 0..length {
                    out.push(*out.get(out.len().checked_sub(distance)?)?);
                }
            }
        }
    }
}

fn length(symbol: usize, bits: &mut Bits<'_>) -> Option<usize> {
    match symbol {
        0..8 => Some(symbol + 3),
        8..28 => {
            let extra = symbol / 4 - 1;
            Some(3 + ((4 + symbol % 4) << extra) + bits.take(extra)?)
        }
        28 => Some(258),
        _ => None,
    }
}

fn distance(symbol: usize, bits: &mut Bits<'_>) -> Option<usize> {
    match symbol {
        0..4 => Some(symbol + 1),
        4..30 => {
            let extra = symbol / 2 - 1;
            Some(1 + ((2 + symbol % 2) << extra) + bits.take(extra)?)
        }
        _ => None,
    }
}
