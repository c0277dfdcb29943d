"""Text for predicted vectors: of each prediction the sentence whose vector is nearest by cosine, beside the one that truly follows.

    python3 data/embed_text.py data/vectors.npz --train wiki.valid.tokens wiki.test.tokens
    engine train data/runs/lvm_best.toml --out runs/text
    engine eval --run runs/text --predictions data/predictions.npz
    python3 data/nearest_text.py data/vectors.npz data/predictions.npz [--set val] [--show 5] [--among all]

The sentences come from the .json file that embed_text.py writes beside the vectors. Looked through are the targets of the set, or with --among all
those of every set. The last line says how often the nearest sentence is the true one, and the median of its rank: what decoding by nearest
neighbour gives of a text. Needs numpy alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors")
    parser.add_argument("predictions")
    parser.add_argument("--set", choices=("train", "val", "ood"), default="val")
    parser.add_argument("--among", choices=("set", "all"), default="set")
    parser.add_argument("--show", type=int, default=5)
    args = parser.parse_args()
    vectors, texts = np.load(args.vectors), json.loads(Path(args.vectors).with_suffix(".json").read_text(encoding="utf-8"))
    predictions = unit(np.load(args.predictions)[f"{args.set}_predictions"])
    if len(predictions) != len(texts[args.set]):
        parser.error(f"{len(predictions)} predictions for {len(texts[args.set])} windows of {args.set}: were they made from these vectors, with their own split?")
    sets = [args.set] + [name for name in texts if args.among == "all" and name != args.set]
    candidates = np.concatenate([unit(vectors[f"{'' if name == 'train' else name + '_'}target_vectors"]) for name in sets])
    sentences = [window[-1] for name in sets for window in texts[name]]
    ranks = []
    for first in range(0, len(predictions), 512):
        cosines = predictions[first : first + 512] @ candidates.T
        for row, i in zip(cosines, range(first, first + 512)):
            ranks.append(1 + int((row > row[i]).sum()))
            if i < args.show:
                nearest = int(row.argmax())
                for sentence in texts[args.set][i][:-1]:
                    print(f"        {sentence}")
                print(f"true    {sentences[i]}  (cosine {row[i]:.4f}, rank {ranks[-1]})")
                print(f"nearest {sentences[nearest]}  (cosine {row[nearest]:.4f})\n")
    ranks = np.array(ranks)
    print(
        f"{args.set}: nearest is the true sentence in {100 * np.mean(ranks == 1):.1f} %, among the ten nearest in {100 * np.mean(ranks <= 10):.1f} %; "
        f"median rank {np.median(ranks):.0f} of {len(candidates)}"
    )


main()
