"""Makes the .npz that the next-vector runs read from text files: sentences, their embeddings, and windows of five with the one that follows.

    pip install sentence-transformers
    python3 data/embed_text.py data/vectors.npz --train wiki.valid.tokens wiki.test.tokens --model sentence-transformers/all-MiniLM-L6-v2

The text is split into articles at lines of the form " = Title = ", so that no window crosses two of them. Of every eight articles
one validates and one is out of distribution, unless --val and --ood name files of their own. Vectors are unit norm and stored as float16.
data/samples/wikitext_minilm_small.npz holds 400 windows made from the WikiText-2 texts (CC BY-SA 3.0) in this way.
"""

import argparse
import re

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
    contexts, targets = [], []
    for sentences in texts:
        vectors = encode(sentences)
        for i in range(len(vectors) - context):
            contexts.append(vectors[i : i + context])
            targets.append(vectors[i + context])
    return np.array(contexts, np.float16), np.array(targets, np.float16)


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
    arrays = {}
    for prefix, texts in (("", train), ("val_", val), ("ood_", ood)):
        arrays[f"{prefix}context_sequences"], arrays[f"{prefix}target_vectors"] = windows(texts, encode, args.context)
        print(f"{prefix or 'train_'}: {len(texts)} articles, {len(arrays[f'{prefix}target_vectors'])} windows")
    np.savez(args.out, **arrays)


if __name__ == "__main__":
    main()
