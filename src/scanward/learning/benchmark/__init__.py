"""The open benchmark for anomalous scanner commands: worlds, attacks, methods side by side, figures, report."""
