// An authorization server for test_dpop_server.py: oidc-provider with its DPoP, nonces demanded, and token exchange
// registered as a grant. Prints its URL. Usage: node oidc_provider.mjs FOLDER_WITH_NODE_MODULES PASSWORD
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [, , folder, password] = process.argv;
const library = (path) => import(pathToFileURL(`${folder}/node_modules/oidc-provider/lib/${path}`));
const { default: Provider, errors } = await library('index.js');
const { default: validateDpop } = await library('helpers/validate_dpop.js');

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const server = createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const url = `http://127.0.0.1:${server.address().port}`;

const client = (id) => ({
  client_id: id, client_secret: password, grant_types: [EXCHANGE], redirect_uris: [], response_types: [],
});
const provider = new Provider(url, {
  clients: [client('app'), client('agents')],
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: true },
  },
});

async function issue(ctx, id, scope, dPoP) {
  const holder = await provider.Client.find(id);
  const grant = new provider.Grant({ accountId: 'diana', clientId: id });
  grant.addOIDCScope('openid');
  const token = new provider.AccessToken({
    accountId: 'diana', client: holder, grantId: await grant.save(), gty: 'exchange', scope, expiresWithSession: false,
  });
  if (dPoP) token.setThumbprint('jkt', dPoP.thumbprint);
  return { token, value: await token.save() };
}

provider.registerGrantType(EXCHANGE, async (ctx) => {
  const dPoP = await validateDpop(provider, ctx);
  const { subject_token: subject, subject_token_type: kind, requested_token_type: wanted } = ctx.oidc.params;
  if (kind !== ACCESS_TOKEN || wanted !== ACCESS_TOKEN) throw new errors.InvalidRequest('kind of token');
  if (!(await provider.AccessToken.find(subject))) throw new errors.InvalidGrant('subject token');
  const { token, value } = await issue(ctx, ctx.oidc.client.clientId, 'openid', dPoP);
  ctx.body = {
    access_token: value, issued_token_type: ACCESS_TOKEN, token_type: token.tokenType, expires_in: 120,
  };
}, ['audience', 'resource', 'scope', 'requested_token_type', 'subject_token', 'subject_token_type', 'actor_token',
  'actor_token_type']);

provider.use(async (ctx, next) => {
  if (ctx.path === '/login') ctx.body = (await issue(ctx, 'app', 'openid')).value;
  else await next();
});
server.on('request', provider.callback());
console.log(url);
