"""Learning a bundle from recordings: fit, calibrate, evaluate, baselines. Never loaded by the guard.

scikit-learn, LightGBM and torch live here and nowhere else in the commands wing.
"""
