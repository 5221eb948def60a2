"""CK+, MobileNet-v1 1.0, the 16 action units with at least 60 positives, 3 folds by subject.

Epoch and thresholds are chosen on an inner part of the training subjects. Means over folds, then
labels. With the default options the setting is that of the PyTorch job quoted in docs/results.md.
"""

from __future__ import annotations

from protocol import Clock, common_options, data_folder, mean_over, print_header, print_row, save, score

import facsnet as fn


def main() -> None:
    parser = common_options(__doc__.splitlines()[0])
    parser.add_argument("--head-epochs", type=int, default=40)
    parser.add_argument("--finetune-epochs", type=int, default=8)
    parser.add_argument("--head-rate", type=float, default=1e-3)
    parser.add_argument("--finetune-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--statistics", default="batch", choices=["batch", "stored"])
    parser.add_argument("--schedule", default="constant")
    parser.add_argument("--average-decay", type=float)
    parser.add_argument("--crop", type=float, default=1.0)
    parser.add_argument("--rotation", type=float, default=0.0)
    parser.add_argument("--brightness", type=float, default=0.0)
    parser.add_argument("--contrast", type=float, default=0.0)
    parser.add_argument(
        "--inner",
        action="store_true",
        help="score the inner part, for choosing defaults, and leave the test part alone",
    )
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2])
    o = parser.parse_args()
    folder = data_folder("ckplus")
    samples = fn.Samples.from_csv(folder / "labels.csv")
    samples = samples.select_labels(samples.labels_with(min_positives=60))
    print(samples.summary())
    print_header()
    results = {}
    for loss in o.losses:
        for stage_count in (1, 2):
            results[loss, stage_count] = []
        clock = Clock()
        for seed in o.seeds:
            for fold in o.folds:
                train, test = samples.folds(3, by="subject", seed=0)[fold]
                inner, valid = train.inner_split(every=5)
                scored = valid if o.inner else test
                network = fn.Network("mobilenet_v1", labels=samples.label_names, threads=o.threads, seed=seed)
                network.load_weights(data_folder("weights") / "mobilenet_v1_1.0_224.safetensors")
                head, finetune = fn.two_stage(
                    head_epochs=o.head_epochs,
                    finetune_epochs=o.finetune_epochs,
                    head_rate=o.head_rate,
                    finetune_rate=o.finetune_rate,
                    statistics=o.statistics,
                    schedule=fn.Schedule(o.schedule),
                    optimiser=fn.Optimiser(average_decay=o.average_decay),
                )
                varied = fn.Augmentation(0.5, o.crop, o.rotation, o.brightness, o.contrast)
                finetune = fn.Stage(**{**vars(finetune), "augmentation": varied})
                for count, stage in ((1, head), (2, finetune)):
                    history = fn.Trainer(network, loss=loss, stages=[stage], seed=seed, batch_size=o.batch_size).fit(
                        inner, valid
                    )
                    results[loss, count].append(score(network, valid, scored, flip_average=o.flip_average))
                    print(
                        f"  seed {seed} fold {fold} {stage.name}: best epoch {history.best}, {sum(r['seconds'] for r in history.rows):.0f} s",
                        flush=True,
                    )
        for count, title in ((1, f"{loss}: stage 1"), (2, f"{loss}: both stages")):
            print_row(title, mean_over(results[loss, count]))
        print(f"  {clock}", flush=True)
    save(o.json, {f"{loss} stage {count}": mean_over(rows) for (loss, count), rows in results.items()})


if __name__ == "__main__":
    main()
