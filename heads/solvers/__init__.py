"""What a head by itself and all folds at once compute with: scaling, descent, calibration."""
