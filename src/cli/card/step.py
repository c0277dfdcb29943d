# The training step of data/runs/lvm_mlp.toml in PyTorch, on the card that it finds. Prints JSON.
import json, time
try:
    import torch
except ImportError:
    print(json.dumps({"absent": "PyTorch is not installed for python3"}))
    raise SystemExit
if not torch.cuda.is_available():
    print(json.dumps({"absent": f"PyTorch {torch.__version__} finds no card"}))
    raise SystemExit
torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(5 * 768, 1024), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(1024, 768)).cuda()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x, target = torch.randn(128, 5 * 768, device="cuda"), torch.randn(128, 768, device="cuda")
times = []
for _ in range(21):
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(8):
        optimizer.zero_grad(set_to_none=True)
        loss = (1 - torch.nn.functional.cosine_similarity(model(x), target)).mean()
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    times.append((time.perf_counter() - started) / 8)
print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "step_seconds": sorted(times[1:])[10]}))
