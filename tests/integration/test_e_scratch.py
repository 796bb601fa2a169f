from tests.integration.test_deploy import *
from tests.integration import test_deploy as T
def test_mutated(namespace, images, tmp_path):
    yard = Yard(namespace, images, tmp_path / "home")
    cur = yard.cluster.get("servingruntime", "slipway", namespace.name)
    args = [a for a in cur["spec"]["containers"][0]["args"] if "drain" not in a]
    patch_runtime(yard, args=args)
    yard.deploy(yard.bundle())
    for _ in range(3):
        with yard.asking() as asked:
            yard.deploy(yard.bundle()); time.sleep(6)
        print("\nFAILED", len(asked.failures), sum(asked.versions.values()), asked.failures[:4])
