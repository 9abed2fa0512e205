// node crd_check.mjs NODE_MODULES < a JSON array of objects; prints a JSON array of what is wrong with each, by the
// schemas of @kubernetes-models, which are made from the projects' published CustomResourceDefinitions.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const FILES = {
  "argoproj.io/v1alpha1": "argo-rollouts/argoproj.io/v1alpha1",
  "gateway.networking.k8s.io/v1": "gateway-api/gateway.networking.k8s.io/v1",
  "keda.sh/v1alpha1": "keda/keda.sh/v1alpha1",
};
const folder = process.argv[2];
const found = [];
for (const thing of JSON.parse(readFileSync(0, "utf8"))) {
  const file = `${folder}/@kubernetes-models/${FILES[thing.apiVersion]}/${thing.kind}.js`;
  const { [thing.kind]: Model } = await import(pathToFileURL(file).href);
  try {
    new Model(thing).validate();
    found.push([]);
  } catch (error) {
    found.push((error.errors ?? [error]).map((one) => `${one.instancePath ?? ""} ${one.message}`));
  }
}
console.log(JSON.stringify(found));
