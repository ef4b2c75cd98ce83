// Phones without a browser, which have no media: node node.mjs. A phone is made by the first command that names it.

import { WebSocket } from 'ws';
import { serve, tell } from './driver.mjs';
import { Phone } from './phone.js';

globalThis.WebSocket = WebSocket; // Node 18 has none, and that of later ones cannot be told whom to trust

const phones = new Map();

serve((name, command, args) => {
  if (!phones.has(name)) phones.set(name, new Phone(event => tell({ phone: name, ...event })));
  return phones.get(name)[command](args);
});
