// The script of a tab: one phone, which the driver reaches as `phone`.

import { Phone } from './phone.js';

globalThis.phone = new Phone(event => globalThis.report(event));
