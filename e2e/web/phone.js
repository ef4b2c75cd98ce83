// A SIP phone made of JsSIP, the same in a tab of a browser and in plain Node. What happens to it, and each SIP message,
// it reports with its name and plain values; what it is told to do are its methods.

import JsSIP from 'jssip';

// The wire is JsSIP's socket, and tells of what goes over it.
class Wire extends JsSIP.WebSocketInterface {
  constructor(url, report) {
    super(url);
    this.report = report;
  }

  send(message) {
    const sent = super.send(message);
    if (sent) this.report({ event: 'sent', text: message });
    return sent;
  }

  _onMessage(event) {
    this.report({ event: 'received', text: event.data });
    super._onMessage(event);
  }
}

export class Phone {
  // report is called with an object for each event; its `event` is the name.
  constructor(report) {
    this.report = report;
  }

  // start connects and registers. Of account, url, user, domain and password are needed; instance is the UUID of the
  // device (RFC 5626 4.1), another at each start if there is none.
  start({ url, user, domain, password, instance }) {
    const report = this.report;
    this.wire = new Wire(url, report);
    this.domain = domain;
    const ua = this.ua = new JsSIP.UA({
      sockets: [this.wire],
      uri: `sip:${user}@${domain}`,
      password,
      ...(instance && { instance_id: instance }),
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 2,
    });
    ua.on('connected', () => report({ event: 'connected' }));
    ua.on('disconnected', ({ code, reason }) => report({ event: 'disconnected', code, reason }));
    ua.on('registered', () => report({ event: 'registered' }));
    ua.on('unregistered', () => report({ event: 'unregistered' }));
    ua.on('registrationFailed', ({ response, cause }) =>
      report({ event: 'registrationFailed', status: response?.status_code, cause }));
    ua.on('newMessage', ({ originator, request }) => {
      if (originator === 'remote') report({ event: 'message', text: request.body, from: request.from.uri.toString() });
    });
    ua.on('newRTCSession', ({ originator, session, request }) => {
      this.session = session;
      this.follow(session);
      if (originator === 'remote') report({ event: 'incoming', from: request.from.uri.toString() });
    });
    ua.start();
  }

  // follow reports what happens to a call, and what the other side does in it.
  follow(session) {
    for (const event of ['progress', 'confirmed', 'ended', 'failed']) {
      session.on(event, ({ originator, cause, message } = {}) =>
        this.report({ event, originator, cause, status: message?.status_code }));
    }
    for (const event of ['hold', 'unhold']) {
      session.on(event, ({ originator }) => originator === 'remote' && this.report({ event }));
    }
    session.on('newDTMF', ({ originator, dtmf }) => originator === 'remote' && this.report({ event: 'key', text: dtmf.tone }));
  }

  // stop removes the registration, as far as it can, and closes the connection.
  stop() {
    this.ua.stop();
  }

  // call calls a user of the domain. lines go at the end of the offer.
  call({ to, anonymous = false, lines = [] }) {
    this.ua.call(`sip:${to}@${this.domain}`, {
      ...media,
      anonymous,
      eventHandlers: {
        sdp: e => {
          if (e.originator === 'local' && e.type === 'offer') e.sdp += lines.map(line => `${line}\r\n`).join('');
        },
      },
    });
  }

  answer() {
    this.session.answer(media);
  }

  reject({ status }) {
    this.session.terminate({ status_code: status });
  }

  // hangUp ends the call, or cancels it while it rings.
  hangUp() {
    this.session.terminate();
  }

  // hold and unhold resolve when the other side has agreed.
  hold() {
    return new Promise(done => this.session.hold({}, done));
  }

  unhold() {
    return new Promise(done => this.session.unhold({}, done));
  }

  dtmf({ tones }) {
    this.session.sendDTMF(tones, { transportType: 'INFO', duration: 70, interToneGap: 50 });
  }

  // message sends text to a user and resolves to the status of the response.
  message({ to, text }) {
    return new Promise(done => this.ua.sendMessage(`sip:${to}@${this.domain}`, text, {
      eventHandlers: {
        succeeded: ({ response }) => done(response.status_code),
        failed: ({ response }) => done(response?.status_code ?? 0),
      },
    }));
  }

  // media resolves when that many more RTP packets have been sent, and received.
  async media({ packets }) {
    const count = async () => {
      const counts = { sent: 0, received: 0 };
      for (const s of (await this.session.connection.getStats()).values()) {
        if (s.type === 'outbound-rtp') counts.sent += s.packetsSent;
        if (s.type === 'inbound-rtp') counts.received += s.packetsReceived;
      }
      return counts;
    };
    const before = await count();
    for (;;) {
      const now = await count();
      if (now.sent >= before.sent + packets && now.received >= before.received + packets) return;
      await new Promise(done => setTimeout(done, 20));
    }
  }
}

// Sound alone, and no servers for ICE: both ends are on this machine.
const media = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
