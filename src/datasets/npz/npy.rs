//! The .npy header of a member, and the numbers behind it.

use half::f16;

use super::zip::{Body, Found, bad, quoted, u32_at};

/// Longest .npy header read; NumPy itself stops at 10,000 bytes.
pub(super) const MAX_HEADER: usize = 64 << 10;
/// Largest number of axes of an array, as in NumPy.
const MAX_AXES: usize = 64;
/// Number of bytes decoded or written at a time; a multiple of every item size.
pub(super) const CHUNK: usize = 64 << 10;

/// Number format of an array: kind, size and byte order of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) kind: u8,
    pub(super) size: usize,
    pub(super) big_endian: bool,
}

impl Item {
    pub(super) fn is_half(self) -> bool {
        (self.kind, self.size) == (b'f', 2)
    }

    /// Parses a dtype such as `<f4`, or says why it is not one of numbers.
    fn new(dtype: &str) -> std::result::Result<Self, String> {
        let item = match *dtype.as_bytes() {
            [order, kind, digit @ b'1'..=b'8'] => Item { kind, size: usize::from(digit - b'0'), big_endian: order == b'>' },
            _ => Item { kind: *dtype.as_bytes().get(1).unwrap_or(&b' '), size: 0, big_endian: false },
        };
        let known = matches!((item.kind, item.size), (b'f', 2 | 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8) | (b'b', 1));
        let ordered = dtype.starts_with(['<', '>']) || (dtype.starts_with('|') && item.size == 1);
        if known && ordered {
            return Ok(item);
        }
        let what = match item.kind {
            _ if dtype.starts_with(['[', '(']) => "structured records",
            b'O' => "Python objects",
            b'S' | b'a' | b'U' => "text",
            b'c' => "complex numbers",
            b'M' | b'm' => "dates or time spans",
            b'V' => "raw bytes",
            b'f' => "floats of an unusual size",
            _ => "nothing that is known here",
        };
        let hint = match item.kind {
            b'S' | b'a' | b'U' | b'O' => "of labels save their numbers, np.unique(x, return_inverse=True)[1], or save a table as .csv",
            _ => "re-save it as a numeric array, for example with np.asarray(x, dtype=np.float32)",
        };
        Err(format!("its dtype {} holds {what}, expected floats of 2, 4 or 8 bytes, integers or booleans; {hint}", quoted(dtype)))
    }
}

/// Header of a .npy file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) dtype: String,
    pub(super) item: std::result::Result<Item, String>,
    pub(super) shape: Vec<usize>,
    pub(super) fortran_order: bool,
    /// Number of elements in the array.
    pub(super) count: usize,
}

/// Parser for the rest of a .npy header, the literal of a Python dictionary.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn fails<T>(&self, expected: &str) -> Found<T> {
        bad(format!("its header has {} where {expected} should be", quoted(self.0.get(..self.0.len().min(24)).unwrap_or("other text"))))
    }

    fn eat(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn need(&mut self, token: &str) -> Found<()> {
        if self.eat(token) { Ok(()) } else { self.fails(token) }
    }

    fn string(&mut self) -> Found<&'a str> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let Some((text, rest)) = self.0.split_once(quote) else { return self.fails("a closed string") };
                self.0 = rest;
                return Ok(text);
            }
        }
        self.fails("a string")
    }

    /// Parses a string, or the text of a bracketed value: a structured dtype, which is only shown.
    fn dtype(&mut self) -> Found<&'a str> {
        self.0 = self.0.trim_start();
        if !self.0.starts_with(['[', '(']) {
            return self.string();
        }
        let (mut depth, mut quote) = (0_usize, None);
        let mut characters = self.0.char_indices();
        while let Some((i, c)) = characters.next() {
            match (quote, c) {
                // What a backslash escapes ends no string.
                (Some(_), '\\') => _ = characters.next(),
                (Some(q), _) if q == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[' | '(') => depth += 1,
                (None, ']' | ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let (text, rest) = self.0.split_at(i + 1);
                self.0 = rest;
                return Ok(text);
            }
        }
        self.fails("a closed bracket")
    }

    fn boolean(&mut self) -> Found<bool> {
        if self.eat("True") {
            return Ok(true);
        }
        self.need("False").map(|()| false)
    }

    fn shape(&mut self) -> Found<Vec<usize>> {
        let mut shape = Vec::new();
        self.need("(")?;
        while !self.eat(")") {
            if shape.len() == MAX_AXES {
                return bad(format!("its shape has more than {MAX_AXES} axes"));
            }
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(digits);
            let Ok(axis) = number.parse() else { return self.fails("the length of an axis, 0 or more") };
            shape.push(axis);
            // Python 2 wrote lengths as 3L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.eat(",") {
                if shape.len() == 1 {
                    return self.fails(",");
                }
                self.need(")")?;
                break;
            }
        }
        Ok(shape)
    }
}

impl Header {
    fn new(text: &str) -> Found<Self> {
        let mut text = Literal(text);
        let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
        text.need("{")?;
        while !text.eat("}") {
            let key = text.string()?;
            text.need(":")?;
            match key {
                "descr" if dtype.is_none() => dtype = Some(text.dtype()?),
                "fortran_order" if fortran_order.is_none() => fortran_order = Some(text.boolean()?),
                "shape" if shape.is_none() => shape = Some(text.shape()?),
                _ => return bad(format!("its header has an unknown or repeated key {}", quoted(key))),
            }
            if !text.eat(",") {
                text.need("}")?;
                break;
            }
        }
        if !text.0.trim_start().is_empty() {
            return text.fails("its end");
        }
        let (Some(dtype), Some(fortran_order), Some(shape)) = (dtype, fortran_order, shape) else {
            return bad("its header lacks one of descr, fortran_order and shape");
        };
        // Axes of length 0 count as 1 here, so that no product of any of the axes overflows anywhere.
        let Some(most) = shape.iter().try_fold(1_usize, |n, axis| n.checked_mul((*axis).max(1))).filter(|n| *n <= isize::MAX as usize / 8)
        else {
            return bad(format!("its shape {shape:?} is more than memory can hold"));
        };
        let count = if shape.contains(&0) { 0 } else { most };
        Ok(Header { dtype: dtype.to_string(), item: Item::new(dtype), shape, fortran_order, count })
    }
}

/// Piece of an array's numbers, as it is read.
pub(super) enum Piece<'a> {
    Halves(&'a [f16]),
    Floats(&'a [f32]),
}

impl Body<'_> {
    /// Reads the .npy header, and checks the size that follows from it against that of the directory.
    pub(super) fn header(&mut self, size: u64) -> Found<Header> {
        let mut start = [0; 12];
        self.fill(&mut start[..8])?;
        if !start.starts_with(b"\x93NUMPY") {
            return bad("it does not start with the mark of a .npy file");
        }
        let width = match (start[6], start[7]) {
            (1, 0) => 2,
            (2 | 3, 0) => 4,
            (major, minor) => return bad(format!("its .npy version is {major}.{minor}, expected 1.0, 2.0 or 3.0")),
        };
        self.fill(&mut start[8..8 + width])?;
        let length = u32_at(&start, 8) as usize;
        let payload = 8 + width + length;
        if length > MAX_HEADER || payload as u64 > size {
            return bad(format!("its header should be {length} bytes long, expected at most {MAX_HEADER} and within its {size} bytes"));
        }
        let mut text = vec![0; length];
        self.fill(&mut text)?;
        let Ok(text) = str::from_utf8(&text) else { return bad("its header is no text") };
        let header = Header::new(text)?;
        if let Ok(item) = header.item {
            // At most 2⁶³: the count was checked against the widest item.
            let expected = payload as u64 + (header.count * item.size) as u64;
            if expected != size {
                let Header { dtype, shape, .. } = &header;
                return bad(format!("shape {shape:?} of {dtype} with its header is {expected} bytes, but it has {size}"));
            }
        }
        Ok(header)
    }

    /// Calls `each` with `count` numbers piece by piece: halves as they are, all other types as f32, rounded to the nearest.
    pub(super) fn numbers(&mut self, item: Item, count: usize, mut each: impl FnMut(Piece<'_>) -> Found<()>) -> Found<()> {
        let Item { kind, size, big_endian } = item;
        let mut chunk = vec![0; CHUNK.min(count * size)];
        let (mut halves, mut floats) = (Vec::new(), Vec::new());
        macro_rules! convert {
            ($bytes:ident, $into:ident, $type:ty, $value:ident => $result:expr) => {{
                let number = |b: &_| if big_endian { <$type>::from_be_bytes(*b) } else { <$type>::from_le_bytes(*b) };
                $into.extend($bytes.as_chunks().0.iter().map(number).map(|$value| $result))
            }};
        }
        let mut left = count;
        while left > 0 {
            let now = left.min(CHUNK / size);
            let bytes = &mut chunk[..now * size];
            self.fill(bytes)?;
            halves.clear();
            floats.clear();
            match (kind, size) {
                (b'f', 2) => convert!(bytes, halves, f16, v => v),
                (b'f', 4) => convert!(bytes, floats, f32, v => v),
                (b'f', _) => convert!(bytes, floats, f64, v => v as f32),
                (b'b', _) => convert!(bytes, floats, u8, v => f32::from(v != 0)),
                (b'i', 1) => convert!(bytes, floats, i8, v => v as f32),
                (b'i', 2) => convert!(bytes, floats, i16, v => v as f32),
                (b'i', 4) => convert!(bytes, floats, i32, v => v as f32),
                (b'i', _) => convert!(bytes, floats, i64, v => v as f32),
                (_, 1) => convert!(bytes, floats, u8, v => v as f32),
                (_, 2) => convert!(bytes, floats, u16, v => v as f32),
                (_, 4) => convert!(bytes, floats, u32, v => v as f32),
                _ => convert!(bytes, floats, u64, v => v as f32),
            }
            each(if halves.is_empty() { Piece::Floats(&floats) } else { Piece::Halves(&halves) })?;
            left -= now;
        }
        Ok(())
    }
}
