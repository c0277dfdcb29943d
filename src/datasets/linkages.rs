//! Planar linkages: four-bars and the Watt and Stephenson six-bars, solved exactly, and images of the curves that they trace.
//!
//! A linkage is its type and the positions of its joints; every length follows from them. While the crank turns, each further joint is
//! rigid with two others or lies at the intersection of two circles about them, on the side on which it started (Norton, *Design of
//! Machinery*, ch. 4). A sample is drawn anew until it assembles through 360°. Then it is moved and scaled so that the box of its curve is
//! centred and 2 · `EXTENT` long: the image fixes the scale and the place of the joints, which lie in [−10, 10].

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use super::npz::{Numbers, write_arrays};
use crate::error::Result;
use crate::random::{Random, stream};

/// Largest number of joints of a linkage.
pub const JOINTS: usize = 8;
/// Number of crank positions in a full turn.
pub const TURN: usize = 360;
/// Half the length of a curve's box, in mm.
pub const EXTENT: f64 = 4.0;
/// Largest coordinate of a joint, in mm.
pub const RANGE: f64 = 10.0;
/// Side of an image in pixels.
pub const SIDE: usize = 64;

/// Distance from the centre of an image to the end of the curve, in pixels.
const REACH: f64 = 28.0;
/// Half the side of an image, in mm.
pub const HALF: f64 = EXTENT * SIDE as f64 / 2.0 / REACH;
/// Name of an array that marks files made by `engine data`, whose types are indices into `KINDS`; its value is the version of that list.
pub const MARK: &str = "linkages";

/// A point (x, y) of the plane.
pub type Point = [f64; 2];

/// Ways in which a joint follows two others.
#[derive(Debug, Clone, Copy)]
enum Follow {
    /// Rigid: fixed in the frame of a link through both.
    Rigid,
    /// Dyad: at the intersection of two circles around them.
    Dyad,
}
use Follow::{Dyad, Rigid};

/// A type of linkage. Joint 0 is the pivot of the crank, `crank` is its end, and `ground` lists the pivots.
#[derive(Debug)]
pub struct Kind {
    /// Name of the type.
    pub name: &'static str,
    /// Fixed joints, the crank's pivot first.
    pub ground: &'static [usize],
    /// Joint at the end of the crank.
    pub crank: usize,
    /// Joints that follow others, in the order of solution: (joint, way, the two joints it follows).
    follow: &'static [(usize, Follow, usize, usize)],
    /// Rigid bodies, each a list of its joints.
    pub links: &'static [&'static [usize]],
    /// Joint that traces the curve.
    pub traced: usize,
    /// Number of joints.
    pub joints: usize,
}

/// All types; a sample's type is its index here. Joints are listed in the order of solution.
pub const KINDS: [Kind; 8] = [
    Kind {
        name: "four_bar",
        ground: &[0, 1],
        crank: 2,
        follow: &[(3, Dyad, 2, 1), (4, Rigid, 2, 3)],
        links: &[&[0, 2], &[2, 3, 4], &[1, 3]],
        traced: 4,
        joints: 5,
    },
    Kind {
        name: "watt_1_joint",
        ground: &[0, 1],
        crank: 2,
        follow: &[(3, Dyad, 2, 1), (4, Rigid, 2, 3), (5, Rigid, 1, 3), (6, Dyad, 4, 5)],
        links: &[&[0, 2], &[2, 3, 4], &[1, 3, 5], &[4, 6], &[5, 6]],
        traced: 6,
        joints: 7,
    },
    Kind {
        name: "watt_1",
        ground: &[0, 1],
        crank: 2,
        follow: &[(3, Dyad, 2, 1), (4, Rigid, 2, 3), (5, Rigid, 1, 3), (6, Dyad, 4, 5), (7, Rigid, 4, 6)],
        links: &[&[0, 2], &[2, 3, 4], &[1, 3, 5], &[4, 6, 7], &[5, 6]],
        traced: 7,
        joints: 8,
    },
    Kind {
        name: "watt_2",
        ground: &[0, 1, 2],
        crank: 3,
        follow: &[(4, Dyad, 3, 1), (5, Rigid, 1, 4), (6, Dyad, 5, 2), (7, Rigid, 5, 6)],
        links: &[&[0, 3], &[3, 4], &[1, 4, 5], &[5, 6, 7], &[2, 6]],
        traced: 7,
        joints: 8,
    },
    Kind {
        name: "stephenson_1_joint",
        ground: &[0, 1],
        crank: 2,
        follow: &[(3, Rigid, 0, 2), (4, Dyad, 2, 1), (5, Rigid, 1, 4), (6, Dyad, 3, 5)],
        links: &[&[0, 2, 3], &[2, 4], &[1, 4, 5], &[3, 6], &[5, 6]],
        traced: 6,
        joints: 7,
    },
    Kind {
        name: "stephenson_1",
        ground: &[0, 1],
        crank: 2,
        follow: &[(3, Rigid, 0, 2), (4, Dyad, 2, 1), (5, Rigid, 1, 4), (6, Dyad, 3, 5), (7, Rigid, 3, 6)],
        links: &[&[0, 2, 3], &[2, 4], &[1, 4, 5], &[3, 6, 7], &[5, 6]],
        traced: 7,
        joints: 8,
    },
    // The curve is that of the four-bar inside: the last dyad does not influence it.
    Kind {
        name: "stephenson_3_coupler",
        ground: &[0, 1, 2],
        crank: 3,
        follow: &[(4, Dyad, 3, 1), (5, Rigid, 3, 4), (6, Dyad, 5, 2)],
        links: &[&[0, 3], &[3, 4, 5], &[1, 4], &[5, 6], &[2, 6]],
        traced: 5,
        joints: 7,
    },
    Kind {
        name: "stephenson_3",
        ground: &[0, 1, 2],
        crank: 3,
        follow: &[(4, Dyad, 3, 1), (5, Rigid, 3, 4), (6, Dyad, 5, 2), (7, Rigid, 5, 6)],
        links: &[&[0, 3], &[3, 4, 5], &[1, 4], &[5, 6, 7], &[2, 6]],
        traced: 7,
        joints: 8,
    },
];

fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

fn cross(a: Point, b: Point) -> f64 {
    a[0] * b[1] - a[1] * b[0]
}

fn length(a: Point) -> f64 {
    a[0].hypot(a[1])
}

/// Point with coordinates (u, v) in the frame from p to q, whose length is the unit.
fn in_frame(p: Point, q: Point, [u, v]: Point) -> Point {
    let d = sub(q, p);
    [p[0] + u * d[0] - v * d[1], p[1] + u * d[1] + v * d[0]]
}

/// Intersection of circles of radii ra around a and rb around b, on the left of a → b for a positive side. None if they do not meet, or at
/// such a flat angle that the joint is close to a dead point.
fn meet(a: Point, b: Point, ra: f64, rb: f64, side: f64) -> Option<Point> {
    let d = length(sub(b, a));
    if d < 1e-9 {
        return None;
    }
    let along = (ra * ra - rb * rb + d * d) / (2.0 * d);
    let height = ra * ra - along * along;
    let flattest = 0.1 * ra.min(rb);
    (height > flattest * flattest).then(|| in_frame(a, b, [along / d, side.signum() * height.sqrt() / d]))
}

impl Kind {
    /// Positions of all joints through a turn of the crank, from those at its start; none if the linkage does not assemble.
    pub fn turn(&self, start: &[Point]) -> Option<Vec<Vec<Point>>> {
        (0..TURN).map(|k| self.solve(start, k as f64 / TURN as f64 * std::f64::consts::TAU)).collect()
    }

    /// Positions of all joints after the crank has turned by an angle in radians.
    fn solve(&self, start: &[Point], angle: f64) -> Option<Vec<Point>> {
        let mut now = start.to_vec();
        let (sin, cos) = angle.sin_cos();
        now[self.crank] = {
            let d = sub(start[self.crank], start[0]);
            [start[0][0] + cos * d[0] - sin * d[1], start[0][1] + sin * d[0] + cos * d[1]]
        };
        for (joint, how, p, q) in self.follow {
            let (from_p, link) = (sub(start[*joint], start[*p]), sub(start[*q], start[*p]));
            now[*joint] = match how {
                Rigid => {
                    let squared = link[0] * link[0] + link[1] * link[1];
                    let u = (from_p[0] * link[0] + from_p[1] * link[1]) / squared;
                    in_frame(now[*p], now[*q], [u, cross(link, from_p) / squared])
                }
                Dyad => {
                    let to_q = length(sub(start[*joint], start[*q]));
                    meet(now[*p], now[*q], length(from_p), to_q, cross(link, from_p))?
                }
            };
        }
        now.iter().all(|p| p[0].is_finite() && p[1].is_finite()).then_some(now)
    }

    /// Curve of the traced joint through a turn.
    pub fn curve(&self, start: &[Point]) -> Option<Vec<Point>> {
        Some(self.turn(start)?.into_iter().map(|joints| joints[self.traced]).collect())
    }

    /// Draws random joints, with the crank along the x axis; they need not assemble at other angles.
    fn draw(&self, random: &mut Random) -> Option<Vec<Point>> {
        let mut between = |low: f64, high: f64| low + (high - low) * random.uniform();
        let direction = between(0.0, std::f64::consts::TAU);
        let (crank, coupler, rocker) = (between(0.15, 0.6), between(0.5, 1.5), between(0.5, 1.5));
        let side = between(-1.0, 1.0);
        let mut joints = vec![[0.0; 2]; self.joints];
        joints[1] = [direction.cos(), direction.sin()];
        for pivot in self.ground.iter().skip(2) {
            joints[*pivot] = in_frame([0.0; 2], joints[1], [between(-0.5, 2.0), between(-1.5, 1.5)]);
        }
        joints[self.crank] = [crank, 0.0];
        let mut first = true;
        for (joint, how, p, q) in self.follow {
            joints[*joint] = match how {
                Rigid => in_frame(joints[*p], joints[*q], [between(-0.5, 1.5), between(-1.0, 1.0)]),
                Dyad if std::mem::take(&mut first) => meet(joints[*p], joints[*q], coupler, rocker, side)?,
                Dyad => {
                    let (ra, rb) = (between(0.5, 2.0), between(0.5, 2.0));
                    meet(joints[*p], joints[*q], ra, rb, between(-1.0, 1.0))?
                }
            };
        }
        Some(joints)
    }

    /// True for one of the two crank-rockers that trace the same coupler curve by the theorem of Roberts and Chebyshev, so that the curve
    /// determines the linkage. Their grounds are in the ratio of the coupler's sides BP and AB; the one with the shorter ground is taken.
    fn is_first_cognate(&self, joints: &[Point]) -> bool {
        let four_bar = self.follow.iter().find(|(joint, how, p, _)| *joint == self.traced && matches!(how, Rigid) && *p == self.crank);
        four_bar.is_none_or(|(joint, _, a, b)| length(sub(joints[*joint], joints[*b])) >= length(sub(joints[*a], joints[*b])))
    }

    /// Joints and curve of a random linkage that assembles through the whole turn, in the frame of its curve; none if this draw failed.
    fn attempt(&self, random: &mut Random) -> Option<(Vec<Point>, Vec<Point>)> {
        let joints = self.draw(random)?;
        // A few positions tell most failures.
        for k in 1..8 {
            self.solve(&joints, f64::from(k) * std::f64::consts::FRAC_PI_4)?;
        }
        let curve = self.curve(&joints)?;
        let [mut low, mut high] = [curve[0], curve[0]];
        for p in &curve {
            for axis in 0..2 {
                low[axis] = low[axis].min(p[axis]);
                high[axis] = high[axis].max(p[axis]);
            }
        }
        let sides = sub(high, low);
        let longest = sides[0].max(sides[1]);
        // A curve that is nearly a line tells little of its linkage.
        if sides[0].min(sides[1]) < 0.2 * longest {
            return None;
        }
        let scale = 2.0 * EXTENT / longest;
        let place = |p: Point| [(p[0] - 0.5 * (low[0] + high[0])) * scale, (p[1] - 0.5 * (low[1] + high[1])) * scale];
        let joints: Vec<Point> = joints.into_iter().map(place).collect();
        let inside = self.is_first_cognate(&joints) && joints.iter().all(|p| p[0].abs() <= RANGE && p[1].abs() <= RANGE);
        inside.then(|| (joints, curve.into_iter().map(place).collect()))
    }
}

/// Index of the type with this name.
pub fn kind(name: &str) -> Option<usize> {
    KINDS.iter().position(|k| k.name == name)
}

/// A linkage with its curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Index into `KINDS`.
    pub kind: usize,
    /// Joints when the crank is along the x axis, in mm.
    pub joints: Vec<Point>,
    /// Image of the traced curve, as `image` draws it.
    pub image: Vec<f16>,
}

/// Sample `item` of a seed; its type is drawn uniformly from `kinds`.
pub fn sample(seed: u64, item: u64, kinds: &[usize]) -> Sample {
    let mut random = Random::new(seed, stream::LINKAGES, item);
    let kind = random.pick(kinds);
    loop {
        if let Some((joints, curve)) = KINDS[kind].attempt(&mut random) {
            return Sample { kind, joints, image: image(&curve) };
        }
    }
}

/// First `count` samples of a seed, drawn on all processors; the result does not depend on their number. `done` is called after each
/// sample.
pub fn samples(seed: u64, count: usize, kinds: &[usize], done: impl Fn() + Sync) -> Vec<Sample> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts: Vec<(usize, Sample)> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let item = next.fetch_add(1, Ordering::Relaxed);
                if item >= count {
                    return mine;
                }
                mine.push((item, sample(seed, item as u64, kinds)));
                done();
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    parts.sort_by_key(|(item, _)| *item);
    parts.into_iter().map(|(_, sample)| sample).collect()
}

/// Grey image of the closed curve, shape (`SIDE`, `SIDE`), rows from the top: 1 within half a pixel of the curve, 0 beyond one and a half.
pub fn image(curve: &[Point]) -> Vec<f16> {
    let mut pixels = vec![0.0f64; SIDE * SIDE];
    let scale = REACH / EXTENT;
    let centre = SIDE as f64 / 2.0;
    let at = |p: Point| [centre + scale * p[0] - 0.5, centre - scale * p[1] - 0.5];
    for (i, from) in curve.iter().enumerate() {
        let (a, b) = (at(*from), at(curve[(i + 1) % curve.len()]));
        let d = sub(b, a);
        let squared = (d[0] * d[0] + d[1] * d[1]).max(1e-12);
        let bounds = |axis: usize| {
            let (low, high) = (a[axis].min(b[axis]) - 1.5, a[axis].max(b[axis]) + 1.5);
            low.ceil().max(0.0) as usize..(high.floor().max(-1.0) + 1.0).min(SIDE as f64) as usize
        };
        for y in bounds(1) {
            for x in bounds(0) {
                let p = sub([x as f64, y as f64], a);
                let t = ((p[0] * d[0] + p[1] * d[1]) / squared).clamp(0.0, 1.0);
                let distance = length(sub(p, [t * d[0], t * d[1]]));
                let pixel = &mut pixels[y * SIDE + x];
                *pixel = pixel.max((1.5 - distance).clamp(0.0, 1.0));
            }
        }
    }
    pixels.into_iter().map(f16::from_f64).collect()
}

/// Writes samples as `images` (N, 64, 64), `types` (N), `joints` (N, 8, 2) in mm with zeros after the last, and `mask` (N, 8).
///
/// # Errors
/// As `npz::write_arrays`.
pub fn write(path: &Path, samples: &[Sample]) -> Result<()> {
    let n = samples.len();
    let images: Vec<f16> = samples.iter().flat_map(|s| s.image.iter().copied()).collect();
    let types: Vec<i32> = samples.iter().map(|s| s.kind as i32).collect();
    let joint = |s: &Sample, j: usize| s.joints.get(j).map_or([0.0; 2], |p| [p[0] as f32, p[1] as f32]);
    let joints: Vec<f32> = samples.iter().flat_map(|s| (0..JOINTS).flat_map(|j| joint(s, j))).collect();
    let mask: Vec<f32> = samples.iter().flat_map(|s| (0..JOINTS).map(|j| f32::from(u8::from(j < s.joints.len())))).collect();
    write_arrays(
        path,
        &[
            ("images", &[n, SIDE, SIDE], Numbers::F16(&images)),
            ("types", &[n], Numbers::I32(&types)),
            ("joints", &[n, JOINTS, 2], Numbers::F32(&joints)),
            ("mask", &[n, JOINTS], Numbers::F32(&mask)),
            (MARK, &[1], Numbers::I32(&[1])),
        ],
    )
}

/// Standard deviation of the coordinates of all joints, by axis.
pub fn deviation(samples: &[Sample]) -> [f64; 2] {
    let joints = || samples.iter().flat_map(|s| s.joints.iter());
    let count = joints().count().max(1) as f64;
    [0, 1].map(|axis| {
        let mean = joints().map(|p| p[axis]).sum::<f64>() / count;
        (joints().map(|p| (p[axis] - mean).powi(2)).sum::<f64>() / count).sqrt()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every link keeps its lengths through the turn, pivots stay, and the curve fills its box.
    #[test]
    fn links_stay_rigid_while_the_crank_turns() {
        for (k, kind) in KINDS.iter().enumerate() {
            for item in 0..5 {
                let sample = sample(3, item, &[k]);
                assert_eq!((sample.joints.len(), sample.kind), (kind.joints, k));
                let turn = kind.turn(&sample.joints).unwrap();
                for joints in &turn {
                    for link in kind.links {
                        for (i, p) in link.iter().enumerate() {
                            for q in &link[..i] {
                                let before = length(sub(sample.joints[*p], sample.joints[*q]));
                                let now = length(sub(joints[*p], joints[*q]));
                                assert!((before - now).abs() < 1e-9 * before, "{} link {p}–{q}: {before} {now}", kind.name);
                            }
                        }
                    }
                    assert!(kind.ground.iter().all(|g| joints[*g] == sample.joints[*g]));
                }
                // Continuous: the side of each dyad never jumps.
                for pair in turn.windows(2) {
                    let jump = (0..kind.joints).map(|j| length(sub(pair[1][j], pair[0][j]))).fold(0.0, f64::max);
                    assert!(jump < 3.0, "{} jumps by {jump}", kind.name);
                }
                let reach =
                    turn.iter().map(|joints| joints[kind.traced]).collect::<Vec<_>>().iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
                assert!((reach - EXTENT).abs() < 1e-9);
                assert!(sample.joints.iter().flatten().all(|v| v.abs() <= RANGE));
            }
        }
    }

    #[test]
    fn samples_do_not_depend_on_the_processors() {
        let kinds = [0, 2, 7];
        let told = AtomicUsize::new(0);
        let drawn = samples(9, 20, &kinds, || {
            told.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(told.load(Ordering::Relaxed), 20);
        assert!(drawn.iter().enumerate().all(|(i, s)| *s == sample(9, i as u64, &kinds)));
        assert_ne!(drawn[0], sample(10, 0, &kinds));
    }

    #[test]
    fn an_image_is_dark_but_for_the_curve() {
        let circle: Vec<Point> =
            (0..TURN).map(|k| k as f64 / 180.0 * std::f64::consts::PI).map(|a| [4.0 * a.cos(), 4.0 * a.sin()]).collect();
        let pixels = image(&circle);
        let value = |x: usize, y: usize| pixels[y * SIDE + x].to_f64();
        assert_eq!((value(32, 32), value(0, 0)), (0.0, 0.0));
        // The rightmost point lies 28 pixels from the centre, between the pixels 59 and 60.
        assert!(value(59, 32) > 0.98 && value(60, 32) > 0.98 && value(57, 32) < 0.02);
        let lit: f64 = pixels.iter().map(|v| v.to_f64()).sum();
        assert!((lit / (std::f64::consts::TAU * 28.0) - 2.0).abs() < 0.05, "{lit}");
    }
}
