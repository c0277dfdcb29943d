"""Makes the .npz that the next-vector runs read from text files: sentences, their embeddings, and windows of five with the one that follows.

    pip install sentence-transformers
    python3 data/embed_text.py data/vectors.npz --train wiki.valid.tokens wiki.test.tokens --model sentence-transformers/all-MiniLM-L6-v2

Beside the vectors it writes their sentences as data/vectors.json, from which data/nearest_text.py turns predictions back into text:

    engine train data/runs/lvm_best.toml --out runs/text
    engine eval --run runs/text --predictions data/predictions.npz
    python3 data/nearest_text.py data/vectors.npz data/predictions.npz

The text is split into articles at lines of the form " = Title = ", so that no window crosses two of them. Of every eight articles
one validates and one is out of distribution, unless --val and --ood name files of their own. Vectors are unit norm and stored as float16.
data/samples/wikitext_minilm_small.npz holds 400 windows made from the WikiText-2 texts (CC BY-SA 3.0) in this way.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'A-Z])")
TITLE = re.compile(r"^ = [^=].* = $")


def articles(paths):
    """Lists of sentences of at least four words, one list an article."""
    out = [[]]
    for path in paths:
        for line in open(path, encoding="utf-8"):
            if TITLE.match(line.rstrip("\n")):
                out.append([])
            elif line.strip() and not line.startswith(" ="):
                out[-1].extend(s for s in SENTENCE.split(line.strip()) if len(s.split()) >= 4)
    return [a for a in out if a]


def windows(texts, encode, context):
    """Contexts, targets, and of each window its sentences: the target is the last of them."""
    contexts, targets, of = [], [], []
    for sentences in texts:
        vectors = encode(sentences)
        for i in range(len(vectors) - context):
            contexts.append(vectors[i : i + context])
            targets.append(vectors[i + context])
            of.append(sentences[i : i + context + 1])
    return np.array(contexts, np.float16), np.array(targets, np.float16), of


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--val", nargs="+")
    parser.add_argument("--ood", nargs="+")
    parser.add_argument("--context", type=int, default=5)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    args = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(args.model)

    def encode(sentences):
        return model.encode(sentences, batch_size=64, normalize_embeddings=True)

    every = articles(args.train)
    val = articles(args.val) if args.val else [a for i, a in enumerate(every) if i % 8 == 6]
    ood = articles(args.ood) if args.ood else [a for i, a in enumerate(every) if i % 8 == 7]
    train = [a for i, a in enumerate(every) if (args.val or i % 8 != 6) and (args.ood or i % 8 != 7)]
    arrays, sentences = {}, {}
    for prefix, texts in (("", train), ("val_", val), ("ood_", ood)):
        name = prefix.rstrip("_") or "train"
        contexts, targets, of = windows(texts, encode, args.context)
        print(f"{name}: {len(texts)} articles, {len(of)} windows")
        if of:
            arrays[f"{prefix}context_sequences"], arrays[f"{prefix}target_vectors"], sentences[name] = contexts, targets, of
    np.savez(args.out, **arrays)
    Path(args.out).with_suffix(".json").write_text(json.dumps(sentences, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
