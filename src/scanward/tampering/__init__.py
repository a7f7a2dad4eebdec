"""The CycleGAN that inserts and removes lesions in mammograms, for defence research: training, marked outputs.

Every picture it writes says what it is; nothing here sends pictures anywhere.
"""
