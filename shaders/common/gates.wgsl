// The activations of the gates of a recurrent cell, for some units at a time.
fn sigmoids(x: Features) -> Features {
    var y = x;
    for (var k = 0u; k < FEATURES; k++) {
        y = put(y, k, sigmoid(component(x, k)));
    }
    return y;
}

fn tanhs(x: Features) -> Features {
    var y = x;
    for (var k = 0u; k < FEATURES; k++) {
        y = put(y, k, tanh_accurate(component(x, k)));
    }
    return y;
}
