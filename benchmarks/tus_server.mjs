// @tus/server with its file store: node tus_server.mjs PORT DIRECTORY
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

// Modules are looked up from the harness's cache, where npm has put them.
const require = createRequire(process.env.BENCH_NODE + '/')
const load = (name) => import(pathToFileURL(require.resolve(name)).href)
const { Server } = await load('@tus/server')
const { FileStore } = await load('@tus/file-store')

const [port, directory] = process.argv.slice(2)
const server = new Server({
  path: '/uploads',
  datastore: new FileStore({ directory }),
  relativeLocation: true,
})
server.listen({ host: '127.0.0.1', port: Number(port) })
