// What the passes of SwiGLU share.
struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;

// Gate of element i of the output, of `cols` a row; what it lets through lies `cols` further on.
fn gate_at(i: u32, cols: u32) -> u32 {
    return i + i / cols * cols;
}
