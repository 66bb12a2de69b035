"""Run a plan: start servers, run trials, save rows. Imports `plans`, `analysis` and all rooms below."""
