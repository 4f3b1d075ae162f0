#!/usr/bin/env bash
# Installs what the tests need beside Python: Redis, RabbitMQ, PostgreSQL, Chromium and a font for its screenshots.
#
# As root on Debian or Ubuntu it installs what is missing, and starts none of it: the tests start their own.
# Elsewhere it says what is missing, and the tests that need it fail. In CI (CI=true) a missing server is an error.
set -euo pipefail

redis() { command -v redis-server; }
rabbitmq() { command -v rabbitmq-server || test -x /usr/sbin/rabbitmq-server || test -x /usr/lib/rabbitmq/bin/rabbitmq-server; }
postgres() { command -v postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres'; }
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
font() { compgen -G '/usr/share/fonts/truetype/*/*.ttf' || compgen -G '/System/Library/Fonts/*.ttf'; }

missing() {
    redis >/dev/null || echo redis-server
    rabbitmq >/dev/null || echo rabbitmq-server
    postgres >/dev/null || echo postgresql
    browser >/dev/null || echo chromium
    font >/dev/null || echo fonts-dejavu-core
}

install() {
    local log
    log="$(mktemp)"
    echo "Installing $*"
    forbid_service_start
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
}

# Debian's packages ask policy-rc.d before they start a daemon; 101 means no. A policy that is there already stays.
forbid_service_start() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
}

packages="$(missing)"
if [ -n "$packages" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # one word for each package
    install $packages
    packages="$(missing)"
fi
if [ -n "$packages" ]; then
    # shellcheck disable=SC2086
    echo "Missing for the tests:" $packages >&2
    echo "Install them (on Debian: sudo apt-get install" $packages"), or the tests that need them will fail." >&2
    [ "${CI:-}" != true ] || exit 1
fi
