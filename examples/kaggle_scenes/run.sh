#!/bin/sh
# The competition, from the two CSVs and the folder of pictures to the submission:
#     sh run.sh FOLDER      with FOLDER/train.csv, FOLDER/test.csv, FOLDER/images/
# BACKBONE is what is fine-tuned: torchvision:resnet50 where its weights can be had, else the small
# one inside the package. Every step goes on where it was, so the script can be run again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
backbone=${BACKBONE:-headstock:resnext_nano}
layout="--image-col IMAGE --label-col CLASS --image-root images"

# 1. Frozen features: pictures once through the backbone, the CSV's MFCCs as a set beside them.
headstock extract train.csv -o scenes.h5 $layout --image "$backbone" --columns 'mfcc_*' --as audio
headstock evaluate scenes.h5 --config "$here/frozen.toml" -o runs/frozen

# 2. Fine-tuned, and a four-layer network from scratch, both on the folds of the first run: no row
#    is ever described by a network that saw its label.
folds="--folds runs/frozen/folds.json"
headstock adapt train.csv $layout --backbone "$backbone" $folds -o tuned.safetensors
headstock adapt train.csv $layout --backbone cnn4 --from-scratch --epochs 15 --lr 0.002 $folds \
    -o cnn4.safetensors
headstock extract train.csv -o scenes.h5 $layout \
    --image "tuned=,weights=tuned.safetensors" --image "cnn4=,weights=cnn4.safetensors"

# 3. The whole table of feature paths, from trees to fusion, as one evaluation with its report.
headstock evaluate scenes.h5 --config "$here/evaluate.toml" -o runs/all
headstock report runs/all -o report.html

# 4. One system for the test set, labels with confidence, and the submission.
headstock fit scenes.h5 --head logistic --head rbf-svm --on tuned+audio --fusion gated \
    -o scenes.headstock
layout="--image-col IMAGE --image-root images"
headstock predict scenes.headstock test.csv $layout -o predictions.csv
headstock predict scenes.headstock test.csv $layout --submission Id,CLASS -o submission.csv
