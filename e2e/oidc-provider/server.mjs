// Runs oidc-provider for the end-to-end tests, which drive it through its standard input, a line of JSON or a command each:
//
//   {"port": 0, "clients": [...], "resources": [...], "login": {...}}
//            first: where to listen, who exists, and who logs in where; answered with the issuer
//   rotate   sign with new keys, keep the old ones published; answered with "rotated"
//   grants   answered with how many refresh tokens were redeemed and how many refused, as JSON
//
// The end of the input ends the server.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { errors, Provider } from 'oidc-provider';

// What the library has to say must not look like an answer.
console.info = console.error;
console.warn = console.error;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const options = JSON.parse((await lines.next()).value);
const clients = new Map(options.clients.map((client) => [client.id, client]));
const resources = new Map(options.resources.map((resource) => [resource.id, resource]));

// The client that logs people in, and the claims of each by name. Without them, nobody logs in.
const { client: web, people } = options.login ?? { people: {} };

const lifetime = 3600; // of access tokens, in seconds

const grants = { given: 0, refused: 0 };

function newKey(type, parameters, alg) {
  const { privateKey } = generateKeyPairSync(type, parameters);
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg };
}

// ID tokens are signed with the newest RSA key, access tokens with the newest EC key. The newest come first.
const keys = [];

function addKeys() {
  keys.unshift(newKey('ec', { namedCurve: 'P-256' }, 'ES256'), newKey('rsa', { modulusLength: 2048 }, 'RS256'));
}

// What the provider issues is kept outside of it, so that it outlives a rotation.
const stored = new Map();

class Storage {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    stored.set(this.key(id), payload);
  }

  async find(id) {
    return stored.get(this.key(id));
  }

  async findByUid(uid) {
    return [...stored.values()].find((payload) => payload.kind === this.model && payload.uid === uid);
  }

  async consume(id) {
    stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    stored.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) {
      if (payload.kind === this.model && payload.grantId === grantId) {
        stored.delete(key);
      }
    }
  }
}

function metadata(id, secret, more) {
  return { client_id: id, client_secret: secret, redirect_uris: [], response_types: [], ...more };
}

function newProvider(issuer) {
  const provider = new Provider(issuer, {
    adapter: Storage,
    jwks: { keys },
    ttl: { ClientCredentials: lifetime, AccessToken: web?.tokenLifetime || lifetime },
    // Each is good for one use; another use revokes all that the person has granted.
    rotateRefreshToken: true,
    clients: [
      ...options.clients.map(({ id, secret, scopes }) => metadata(id, secret, {
        grant_types: ['client_credentials'], scope: scopes.join(' '),
      })),
      ...options.resources.map(({ id, secret }) => metadata(id, secret, { grant_types: [] })),
      ...(web ? [metadata(web.id, web.secret, {
        grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], redirect_uris: web.redirectURIs,
        post_logout_redirect_uris: web.postLogoutURIs ?? [],
        ...(web.backchannelURI ? {
          backchannel_logout_uri: web.backchannelURI, backchannel_logout_session_required: true,
        } : {}),
      })] : []),
    ],
    scopes: ['openid', 'offline_access', ...new Set(options.clients.flatMap(({ scopes }) => scopes))],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'], groups: ['groups'] },
    findAccount: (ctx, name) => people[name] && { accountId: name, claims: () => ({ sub: name, ...people[name] }) },
    // By itself the library tells no site on this machine of logouts.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
    features: {
      // Pages that let anybody in without a password.
      devInteractions: { enabled: Boolean(web) },
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      introspection: {
        enabled: true,
        // A resource may ask about the tokens that are meant for it.
        allowedPolicy: (ctx, caller, token) => [token.aud].flat().includes(resources.get(caller.clientId)?.audience),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client) => clients.get(client.clientId)?.audience,
        getResourceServerInfo: (ctx, resource, client) => {
          const { audience, opaque, scopes } = clients.get(client.clientId);
          if (resource !== audience) {
            throw new errors.InvalidTarget();
          }
          return {
            audience,
            scope: scopes.join(' '),
            accessTokenFormat: opaque ? 'opaque' : 'jwt',
            accessTokenTTL: lifetime,
            jwt: { sign: { alg: 'ES256' } },
          };
        },
      },
    },
  });
  const count = (what) => (ctx) => {
    if (ctx.oidc.params?.grant_type === 'refresh_token') {
      grants[what] += 1;
    }
  };
  provider.on('backchannel.error', (ctx, err) => console.error(err));
  provider.on('grant.success', count('given'));
  provider.on('grant.error', count('refused'));
  return provider;
}

const server = createServer();
await new Promise((resolve, reject) => {
  server.once('error', reject);
  server.listen(options.port, '127.0.0.1', resolve);
});
const issuer = `http://127.0.0.1:${server.address().port}`;

// A provider's keys are fixed when it is made, so a rotation replaces it.
let handle;
function serveWithNewKeys() {
  addKeys();
  handle = newProvider(issuer).callback();
}
serveWithNewKeys();
server.on('request', (request, response) => handle(request, response));
console.log(issuer);

for await (const line of lines) {
  switch (line) {
    case 'rotate':
      serveWithNewKeys();
      console.log('rotated');
      break;
    case 'grants':
      console.log(JSON.stringify(grants));
      break;
    default:
      console.error(`unknown command: ${line}`);
      process.exit(1);
  }
}
process.exit(0);
