#!/bin/sh
# Installs what the end-to-end tests need and the machine lacks: the pinned npm packages, among them a
# newer Node, and Debian's chromium, postgresql and redis-server where apt-get may be used. No server is left
# running: the tests start their own, with a folder of their own.
set -eu
cd "$(dirname "$0")/../.."
stamp=e2e/npm/node_modules/.stamp
want=$(cat e2e/npm/package.json e2e/npm/package-lock.json | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
	if ! command -v npm >/dev/null 2>&1; then
		echo "fixtures: npm is missing; install Node with npm" >&2
		exit 1
	fi
	echo "fixtures: installing npm packages into e2e/npm/node_modules"
	(cd e2e/npm && PUPPETEER_SKIP_DOWNLOAD=1 PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
	printf '%s\n' "$want" >"$stamp"
fi
missing=
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v psql >/dev/null 2>&1 && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "fixtures: installing Debian packages$missing"
		export DEBIAN_FRONTEND=noninteractive
		policy=/usr/sbin/policy-rc.d # keeps the packages from starting their services
		made=
		if [ ! -e "$policy" ]; then
			printf '#!/bin/sh\nexit 101\n' >"$policy"
			chmod 755 "$policy"
			made=$policy
		fi
		trap '[ -z "$made" ] || rm -f "$made"' EXIT
		apt-get update -qq >/dev/null 2>&1 || true
		# shellcheck disable=SC2086
		apt-get install -y -qq --no-install-recommends $missing >.cache-apt.log 2>&1 || { cat .cache-apt.log >&2; echo "fixtures: the tests that need$missing will say so" >&2; }
		rm -f .cache-apt.log
	else
		echo "fixtures: not installed, because apt-get needs root:$missing; the tests that need them will say so" >&2
	fi
fi
