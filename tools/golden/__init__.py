"""DeepSeekMoE in plain PyTorch, the independent reference of the C++ program's tests."""
