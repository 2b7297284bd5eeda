// Passkeys: asks the browser for one, and sends what it answers. Everything else on these pages works
// without this script.
'use strict';
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const status = document.getElementById('passkey-status');
  const say = (message) => { status.textContent = message; status.hidden = message === ''; };

  async function send(url, body) {
    const response = await fetch(url, {
      method: 'POST', credentials: 'same-origin', redirect: 'error',
      headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error || 'This does not work right now.');
    return answer;
  }

  const each = (list, change) => (list || []).map((item) => ({ ...item, id: change(item.id) }));

  async function login(button) {
    const { base, csrf, need } = button.dataset;
    const begun = await send(base + '/options', { csrf });
    const options = begun.options;
    options.challenge = bytes(options.challenge);
    options.allowCredentials = each(options.allowCredentials, bytes);
    const found = await navigator.credentials.get({ publicKey: options });
    const r = found.response;
    return send(base + '/finish', {
      csrf, need, ceremony: begun.ceremony,
      credential: {
        id: found.id, rawId: text(found.rawId), type: found.type, clientExtensionResults: {},
        response: {
          clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData),
          signature: text(r.signature), userHandle: r.userHandle ? text(r.userHandle) : undefined,
        },
      },
    });
  }

  async function register(button) {
    const { base, csrf } = button.dataset;
    const begun = await send(base + '/options', { csrf });
    const options = begun.options;
    options.challenge = bytes(options.challenge);
    options.user.id = bytes(options.user.id);
    options.excludeCredentials = each(options.excludeCredentials, bytes);
    const made = await navigator.credentials.create({ publicKey: options });
    const r = made.response;
    return send(base + '/finish', {
      csrf, ceremony: begun.ceremony, label: document.getElementById('passkey-label').value,
      credential: {
        id: made.id, rawId: text(made.rawId), type: made.type, clientExtensionResults: {},
        response: {
          clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject),
          transports: r.getTransports ? r.getTransports() : [],
        },
      },
    });
  }

  function wire(id, ceremony) {
    const button = document.getElementById(id);
    if (!button) return;
    if (!window.PublicKeyCredential || !navigator.credentials) {
      say('This browser does not know passkeys.');
      return;
    }
    button.disabled = false;
    button.addEventListener('click', async () => {
      button.disabled = true;
      say('Waiting for your device …');
      try {
        const answer = await ceremony(button);
        say('Done.');
        if (answer.to.startsWith('/')) window.location.assign(answer.to);
      } catch (problem) {
        say(problem.name === 'NotAllowedError' ? 'Your device did not go on. You can try again.' : problem.message);
        button.disabled = false;
        button.focus();
      }
    });
  }
  wire('passkey-login', login);
  wire('passkey-add', register);
})();
