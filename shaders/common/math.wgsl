// Elementary functions with a stated error. WGSL allows exp an error of 3 + 2|x| ULP and tanh one of 1e-5 absolute, and has no erf. The
// polynomials are least-maximum fits of our own.

// exp x, relative error below 2e-7; 0 below −87.3, infinity above 88.7.
fn exp_accurate(x: f32) -> f32 {
    let clamped = clamp(x, -88.0, 89.0);
    let n = round(clamped * 1.44269504);
    let r = (clamped - n * 0.693359375) + n * 2.12194440e-4; // ln 2 in two parts; the first product is exact
    let q = 0.5 + r * (0.166665182 + r * (0.041666206 + r * (0.00836890843 + r * 0.00139505218)));
    let value = 1.0 + (r + r * r * q);
    let half = i32(n) / 2;
    let rest = i32(n) - half;
    let scaled = value * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(rest + 127) << 23u);
    return select(scaled, 0.0, x < -87.3);
}

// ln x for normal x > 0, relative error below 3e-7.
fn log_accurate(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    // The mantissa is brought to [√½, √2), so that ln near 1 keeps its digits.
    let shift = (bits - 0x3f3504f3u) & 0xff800000u;
    let f = bitcast<f32>(bits - shift) - 1.0;
    let e = f32(bitcast<i32>(shift) >> 23u);
    let s = f / (2.0 + f);
    let z = s * s;
    let series = 2.0 * s * (1.0 + z * (0.333333333 + z * (0.2 + z * (0.142857143 + z * 0.111111111))));
    return series + e * 0.693147181;
}

// erf x, absolute error below 2e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let s = x * x;
    let small = x * (1.12837911 + s * (-0.37612626 + s * (0.112836003 + s * (-0.0268544443
        + s * (0.00518953521 + s * (-0.000802084105 + s * 7.8891193e-05))))));
    // erfc x = exp(−q(x)) on [1, 4]; beyond, erf is 1 in f32.
    let t = min(a, 4.0) - 2.5;
    let q = 7.80681515 + t * (5.35268068 + t * (0.943891823 + t * (0.0108534992
        + t * (-0.00216652267 + t * (0.000430915272 + t * (-6.18164995e-05 + t * 2.16868502e-05))))));
    let large = sign(x) * (1.0 - exp_accurate(-q));
    return select(large, small, a < 1.0);
}

// 1 / (1 + exp(−x)), relative error below 4e-7.
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp_accurate(-x));
}

// v σ(x), relative error below 1e-6. σ(x) alone is subnormal below −87, and devices may flush it to zero, however large v is: its factors
// exp(x/2) come last, one after the other.
fn times_sigmoid(v: f32, x: f32) -> f32 {
    let h = exp_accurate(-0.5 * abs(x));
    let q = v / (1.0 + h * h);
    return select(q, q * h * h, x < 0.0);
}

// The same of four numbers.
fn times_sigmoid4(v: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(times_sigmoid(v.x, x.x), times_sigmoid(v.y, x.y), times_sigmoid(v.z, x.z), times_sigmoid(v.w, x.w));
}

// tanh x, relative error below 4e-7: an odd polynomial near 0, where 1 − 2 / (exp 2x + 1) cancels.
fn tanh_accurate(x: f32) -> f32 {
    let s = x * x;
    let small = x * (1.0 + s * (-0.333333333 + s * (0.133333333 + s * (-0.0539682540 + s * (0.0218694885 - s * 0.00886323553)))));
    let large = sign(x) * (1.0 - 2.0 / (exp_accurate(2.0 * min(abs(x), 20.0)) + 1.0));
    return select(large, small, abs(x) < 0.3);
}

// (sin, cos) of r + n π/2 for |r| up to π/4 and a little more, absolute error below 1e-7.
fn sin_cos_quadrant(r: f32, n: f32) -> vec2<f32> {
    let s = r * r;
    let sine = r + r * s * (-0.166666666 + s * (0.00833333310 + s * (-0.000198409 + s * 2.7526e-6)));
    let cosine = 1.0 - 0.5 * s + s * s * (0.0416666666 + s * (-0.00138888874 + s * (2.4801e-5 - s * 2.7e-7)));
    let quadrant = i32(n) & 3;
    let swapped = select(vec2<f32>(sine, cosine), vec2<f32>(cosine, sine), (quadrant & 1) == 1);
    return vec2<f32>(select(swapped.x, -swapped.x, quadrant >= 2), select(swapped.y, -swapped.y, quadrant == 1 || quadrant == 2));
}

// (sin, cos) of x + e for |x| below 1e4 and a small e, absolute error below 2e-7: x is reduced by multiples of π/2 held in three parts.
fn sin_cos_of(x: f32, e: f32) -> vec2<f32> {
    let n = round((x + e) * 0.636619772);
    return sin_cos_quadrant(fma(n, -7.54978942e-8, fma(n, -4.83751297e-4, fma(n, -1.5703125, x))) + e, n);
}

// (sin x, cos x) for |x| below 1e4, absolute error below 2e-7.
fn sin_cos(x: f32) -> vec2<f32> {
    return sin_cos_of(x, 0.0);
}

// (sin π t, cos π t) for |t| up to 2, absolute error below 2e-7.
fn sin_cos_pi(t: f32) -> vec2<f32> {
    let n = round(2.0 * t);
    return sin_cos_quadrant(3.14159265 * fma(n, -0.5, t), n);
}
